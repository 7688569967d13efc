"""Apps that work through a text in steps: summaries, extraction, classification, drafts."""
