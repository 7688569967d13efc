"""Answers that were given before: exact, for equal calls at once, and by meaning."""
