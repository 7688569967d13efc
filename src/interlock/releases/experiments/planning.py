"""From a file to a frozen plan: shares, the numbers that the bounds need, what it will take. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from interlock.core.canonical import digest_json
from interlock.core.ids import ReleaseId
from interlock.releases.experiments.analysing import RATIOS
from interlock.releases.experiments.types import ExperimentSpec, Forecast, Plan, PlannedArm
from interlock.stats.sequential import units_needed

__all__ = ["digest_of", "frozen"]

_RATIO_SPREAD = 0.6
"""Standard deviation of the logarithm of a person's latency or cost, where nobody knows better."""
_PREFERENCE_SPREAD = 0.7
"""Of a unit's mean of -1, 0 and 1, where in half of the requests nobody wins."""


def frozen(
    spec: ExperimentSpec,
    releases: Sequence[ReleaseId],
    *,
    level: float | None = None,
    units_per_day: float | None = None,
) -> Plan:
    """The plan of an experiment.

    Args:
        releases: of the arms, in their order.
        level: the primary measure of the app lately, where it is a share; the file's own word goes before it.
        units_per_day: that come to the channel, if known; likewise.
    """
    # However the file named them: the plan holds whole ids.
    named = [arm.model_copy(update={"release": release}) for arm, release in zip(spec.arms, releases, strict=True)]
    spec = spec.model_copy(update={"arms": named})
    weights = [arm.share or 1.0 for arm in spec.arms]
    arms = tuple(
        PlannedArm(arm.name, release, weight / math.fsum(weights))
        for arm, release, weight in zip(spec.arms, releases, weights, strict=True)
    )
    forecast = _forecast(spec, arms, level=level, units_per_day=units_per_day)
    smallest = min(arm.share for arm in arms[1:])
    units = forecast.units if spec.kind == "interleave" else round(forecast.units * (1 + arms[0].share / smallest))
    tightest_at = max(2 * spec.min_units, units)
    return Plan(spec, arms, tightest_at, forecast, _digest(spec, arms, tightest_at))


def digest_of(written: Mapping[str, Any]) -> str:  # Any: JSON values
    """The digest of a plan as it is stored, whatever a later version adds to plans."""
    return digest_json({name: written[name] for name in ("spec", "arms", "tightest_at")})


def _digest(spec: ExperimentSpec, arms: Sequence[PlannedArm], tightest_at: int) -> str:
    shares = [{"name": arm.name, "release": arm.release, "share": arm.share} for arm in arms]
    return digest_of({"spec": spec.model_dump(mode="json"), "arms": shares, "tightest_at": tightest_at})


def _forecast(
    spec: ExperimentSpec, arms: Sequence[PlannedArm], *, level: float | None, units_per_day: float | None
) -> Forecast:
    spread, whence = _spread(spec, level)
    primary = spec.primary
    effect = math.log1p(primary.effect) if primary.measure in RATIOS else primary.effect
    smallest = min(arm.share for arm in arms[1:])
    alpha = spec.alpha.primary / (len(arms) - 1)
    controls = None if spec.kind == "interleave" else arms[0].share / smallest
    units = units_needed(spread, effect, alpha=alpha, power=spec.power, controls=controls)
    at_most = units_needed(spread, effect / 2, alpha=alpha, power=0.5, controls=controls)
    daily = spec.expected.units_per_day or units_per_day
    # The smallest arm is the last to have its units; of interleaved searches every unit has both.
    least = 1.0 if spec.kind == "interleave" else min(arm.share for arm in arms)
    of_arm = None if daily is None else daily * spec.traffic / 100 * least
    units, at_most = max(units, spec.min_units), max(at_most, units, spec.min_units)
    return Forecast(
        spread,
        whence,
        units,
        at_most,
        daily,
        None if of_arm is None else units / of_arm,
        None if of_arm is None else at_most / of_arm,
    )


def _spread(spec: ExperimentSpec, level: float | None) -> tuple[float, str]:
    said = spec.expected
    if said.spread is not None:
        return said.spread, "the file"
    if spec.primary.measure == "preference":
        return _PREFERENCE_SPREAD, "nothing is known: a usual spread of preferences is taken"
    if spec.primary.measure in RATIOS:
        return _RATIO_SPREAD, "nothing is known: a usual spread of logarithms is taken"
    if said.level is not None:
        return _of_share(said.level), f"the file's level {said.level:g}, at most"
    if level is not None:
        return _of_share(level), f"the level of the last 14 days, {level:.3g}, at most"
    return 0.5, "nothing is known: the most that a share scatters"


def _of_share(level: float) -> float:
    # Never seen is not never: one in twenty is planned for at least.
    return math.sqrt(max(level, 0.05) * (1 - min(level, 0.95)))
