"""Batch APIs of providers, at half the price: `ports.py` what one is, one file an API."""
