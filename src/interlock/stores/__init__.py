"""Floor 1: where things are kept. Each kind has `base.py` (the promise), an embedded and a scale-out back end."""
