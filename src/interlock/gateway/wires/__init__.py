"""What bytes look like: one codec a protocol, both ways, through the canonical message (N + M, never N x M)."""
