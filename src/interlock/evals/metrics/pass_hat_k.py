"""Probability that all of k tries pass (pass^k), estimated without bias from all repeats of a case: reliability."""

from __future__ import annotations

import math
from collections.abc import Sequence

from interlock.evals.metrics._repeats import Options, passed, too_few
from interlock.evals.ports import Derived
from interlock.evals.types import Score

__all__ = ["Options", "plugin"]


def combine(values: Sequence[float], options: Options) -> Score:
    """C(c, k) / C(n, k) of n repeats with c passes."""
    n, c = len(values), passed(values, options)
    return too_few(values, options) or Score(math.comb(c, options.k) / math.comb(n, options.k))


plugin = Derived(Options, "unit", "repeats", combine, source="Yao et al. 2024 (tau-bench), pass^k")
