"""Entities and relations of a collection, each with the places that say so."""
