"""Governance: what happened, provably."""
