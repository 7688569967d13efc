"""Guardrails: what may go in, what passages may say, what may come out."""
