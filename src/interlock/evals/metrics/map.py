"""Average precision of the first k documents retrieved; its mean over cases is MAP."""

from __future__ import annotations

from interlock.evals.metrics._ranked import ranking_metric
from interlock.evals.ranking import average_precision

__all__ = ["plugin"]

plugin = ranking_metric(
    average_precision, "trec_eval, map_cut, divided by the relevant documents or k, whichever is fewer"
)
