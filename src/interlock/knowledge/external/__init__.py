"""Collections whose passages stand in an index that the company already has."""
