"""Observe: what happened, how long it took, what it cost."""
