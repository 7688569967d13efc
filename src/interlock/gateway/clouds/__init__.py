"""Signing in to the three large clouds, by their published protocols and without their libraries."""
