"""Queues of answers that people review: who sees what, how far they agree, who decides."""
