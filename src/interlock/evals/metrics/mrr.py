"""One over the place of the first relevant document among the first k, 0 without one."""

from __future__ import annotations

from interlock.evals.metrics._ranked import ranking_metric
from interlock.evals.ranking import reciprocal_rank

__all__ = ["plugin"]

plugin = ranking_metric(reciprocal_rank, "trec_eval, recip_rank (over k)")
