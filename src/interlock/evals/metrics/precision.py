"""Share of the first k places of what was retrieved that hold a relevant document; empty places count as wrong."""

from __future__ import annotations

from interlock.evals.metrics._ranked import ranking_metric
from interlock.evals.ranking import precision

__all__ = ["plugin"]

plugin = ranking_metric(precision, "trec_eval, P")
