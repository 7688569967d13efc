"""Normalised discounted cumulative gain of the first k documents retrieved, by the case's grades."""

from __future__ import annotations

from interlock.evals.metrics._ranked import ranking_metric
from interlock.evals.ranking import ndcg

__all__ = ["plugin"]

plugin = ranking_metric(ndcg, "Järvelin and Kekäläinen 2002; trec_eval, ndcg_cut")
