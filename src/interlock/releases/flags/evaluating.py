"""What a declared flag is for one evaluation context. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.releases.flags.types import FlagSpec, Resolution
from interlock.releases.rollouts.assigning import bucket

__all__ = ["MISSING_KEY", "evaluate"]

MISSING_KEY = "targeting_key_missing"
"""Code of the error of a split without anybody to give a variant to."""


def evaluate(
    key: str,
    spec: FlagSpec,
    context: Mapping[str, Any],  # Any: JSON values
    arms: Mapping[str, str | None],
) -> Resolution:
    """The first rule that fits, else the default.

    Args:
        context: attributes; `targetingKey` is what a split is drawn for.
        arms: by app as rules name it: the arm of whoever asks.

    Raises: InvalidInput: a split is met, and there is no targeting key.
    """
    if not spec.enabled:
        return Resolution(key, "DISABLED")
    for rule in spec.rules:
        if not all(_fits(context.get(name), wanted) for name, wanted in rule.when.items()):
            continue
        if rule.variant is not None:
            return Resolution(key, "TARGETING_MATCH", spec.variants[rule.variant], rule.variant)
        if rule.arm_of is not None:
            arm = arms.get(rule.arm_of)
            if arm is not None and arm in spec.variants:
                return Resolution(key, "SPLIT", spec.variants[arm], arm)
            continue
        assert rule.split is not None, "a rule has one of three"
        variant = _drawn(key, rule.split, context)
        return Resolution(key, "SPLIT", spec.variants[variant], variant)
    return Resolution(key, "DEFAULT" if spec.rules else "STATIC", spec.variants[spec.default], spec.default)


def _fits(value: object, wanted: object) -> bool:
    """Whether an attribute is what a rule wants; a list of either side fits when they share a value."""
    asked = wanted if isinstance(wanted, list) else [wanted]
    given = value if isinstance(value, list) else [value]
    # `True == 1` in Python, and not in anybody's rules.
    return any(a == b and isinstance(a, bool) == isinstance(b, bool) for a in asked for b in given)


def _drawn(key: str, split: Mapping[str, float], context: Mapping[str, Any]) -> str:  # Any: JSON values
    unit = context.get("targetingKey")
    if not isinstance(unit, str) or not unit:
        raise InvalidInput(
            f"the flag {key!r} is split over units: say whose it is", param="context.targetingKey", code=MISSING_KEY
        )
    at, passed, total = bucket(f"flag:{key}", unit), 0.0, math.fsum(split.values())
    for variant, weight in split.items():
        passed += weight / total
        if at < passed:
            return variant
    return [variant for variant, weight in split.items() if weight > 0][-1]
