"""One file per story; a flow joins parts and owns none."""
