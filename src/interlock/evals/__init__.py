"""Evaluation: cases, judgements, rates with intervals."""
