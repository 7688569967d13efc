"""One file a provider, found by folder scan."""
