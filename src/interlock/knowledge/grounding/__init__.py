"""Grounded answering: choose evidence, judge whether it answers, write from it, check every sentence against it."""
