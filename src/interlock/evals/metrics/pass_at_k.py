"""Probability that at least one of k tries passes, estimated without bias from all repeats of a case."""

from __future__ import annotations

import math
from collections.abc import Sequence

from interlock.evals.metrics._repeats import Options, passed, too_few
from interlock.evals.ports import Derived
from interlock.evals.types import Score

__all__ = ["Options", "plugin"]


def combine(values: Sequence[float], options: Options) -> Score:
    """1 - C(n - c, k) / C(n, k) of n repeats with c passes."""
    n, c = len(values), passed(values, options)
    return too_few(values, options) or Score(1 - math.comb(n - c, options.k) / math.comb(n, options.k))


plugin = Derived(Options, "unit", "repeats", combine, source="Chen et al. 2021 (Codex), unbiased estimator")
