"""Share of the relevant documents among the first k that were retrieved."""

from __future__ import annotations

from interlock.evals.metrics._ranked import ranking_metric
from interlock.evals.ranking import recall

__all__ = ["plugin"]

plugin = ranking_metric(recall, "trec_eval, recall")
