"""Serving: model weights on this machine."""
