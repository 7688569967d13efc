"""Two variants on the same cases: better, as good within a margin, worse, or not to be told."""

from __future__ import annotations

from dataclasses import replace

from interlock.evals.comparing import Beside
from interlock.evals.gate.deciding import decide
from interlock.evals.gate.rules import GateSpec, Rule
from interlock.evals.matrix.types import Contrast

__all__ = ["contrast"]


def contrast(new: Beside, old: Beside, metric: str, *, margin: float, alpha: float = 0.05) -> Contrast:
    """Compare by the tests that gates use.

    Args:
        margin: in the metric's unit; what is worse by less counts as good.
        alpha: probability of calling better, or as good, what is not. Whoever asks about several divides it among them.
    """
    both = [case for case in new.cases.values() if case.id in old.cases and old.cases[case.id].digest == case.digest]
    if not both:
        return Contrast(new.target, old.target, metric, None, None, "cannot tell", None)
    rules = [Rule(metric=metric, margin=margin), Rule(metric=metric, improves=True)]
    told = decide(GateSpec(alpha=alpha, rules=rules), new.measured, both, old.measured, paired=both)
    kept, better = told.rules
    found = Contrast(new.target, old.target, metric, kept.value, kept.interval, "cannot tell", kept.more)
    if better.p_holds <= alpha:
        return replace(found, verdict="better", more=None)
    if kept.p_holds <= alpha:
        return replace(found, verdict="as good", more=None)
    return replace(found, verdict="worse", more=None) if kept.p_violated <= alpha else found
