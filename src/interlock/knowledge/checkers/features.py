"""The default: a logistic model over how a claim lies on its passage, and a veto on what likeness cannot see.

Fitted by `python -m benchmarks.fit_support` on the three BEGIN dev sets (Dziri et al., TACL 2022; replies of dialogue
models with human labels: 1,229 claims, 313 fully attributable). Nothing of their text is in here, only one weight a
feature. Figures, with and without the veto: docs/design/grounding.md. It reads English; in other languages the veto
on numbers and names still holds and the probability means little.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

from anyio import to_thread

from interlock.core.errors import Misconfigured
from interlock.knowledge.grounding.support_features import FEATURES, objection, support_features
from interlock.knowledge.ports import AskModel, Checker
from interlock.knowledge.types import SupportCase, SupportScore

__all__ = ["FeatureChecker", "plugin"]

INTERCEPT = -3.210
WEIGHTS: dict[str, float] = {
    "cover": 1.573,
    "words": 2.935,
    "pairs": 1.745,
    "sentence": 1.915,
    "new": -1.985,
    "number": -1.188,
    "negation_new": -2.266,
    "modality_new": -1.037,
    "bound_new": -0.992,
    "condition_new": -1.913,
    "voice": -2.417,
    "opinion": -0.661,
    "ask": -3.248,
    "length": -0.19,
}
"""Printed by: python -m benchmarks.fit_support"""
_VETOED = 0.49
"""An objection leaves a claim less probable than not, whatever its likeness."""


class FeatureChecker:
    """About 2 ms a claim; no model, no state."""

    id = "features:sha256:" + hashlib.sha256(repr((INTERCEPT, sorted(WEIGHTS.items()))).encode()).hexdigest()
    threshold = 0.5

    async def check(self, cases: Sequence[SupportCase], ask: AskModel | None = None) -> list[SupportScore]:
        """See `Checker`."""
        return await to_thread.run_sync(lambda: [judged(case) for case in cases])


def probability(case: SupportCase) -> float:
    """That people would call the claim attributable to the passage, by its likeness alone."""
    values = support_features(case)
    logit = INTERCEPT + sum(WEIGHTS[name] * value for name, value in zip(FEATURES, values, strict=True))
    return 1.0 / (1.0 + math.exp(-logit))


def judged(case: SupportCase) -> SupportScore:
    """The probability, held down where the claim turns something round."""
    likely = probability(case)
    against = objection(case)
    if against:
        return SupportScore(round(min(likely, _VETOED), 4), against)
    return SupportScore(round(likely, 4), "ok" if likely >= FeatureChecker.threshold else "unlike")


class _Plugin:
    needs_model = False

    def open(self, name: str, *, models: Path, threads: int) -> Checker:
        if name:
            raise Misconfigured("the checker 'features' has no models to choose from", param="answer.checker.model")
        return FeatureChecker()


plugin = _Plugin()
