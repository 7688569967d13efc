"""Floor 3: one file a story. A flow joins parts; parts never meet elsewhere."""
