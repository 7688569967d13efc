"""See `base.py` for what this store promises."""
