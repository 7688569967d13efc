"""Releases: immutable, content-addressed manifests, and the channels that point at them."""
