"""Staged moves of a channel to a new release, judged at the unit of assignment, rolled back on proof of harm."""
