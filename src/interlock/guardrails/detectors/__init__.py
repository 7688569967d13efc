"""One file a detector, found by folder scan."""
