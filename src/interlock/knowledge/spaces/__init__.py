"""Embedding spaces of collections: the one that answers, and one beside it that may answer next."""
