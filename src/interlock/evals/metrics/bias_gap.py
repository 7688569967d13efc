"""Largest difference of another metric between the cases of a pair, which differ in one thing only: a name, a group."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.ports import Derived
from interlock.evals.types import Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """Of which metric."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: str = Field(min_length=1, description="the other metric's name in the suite; its values lie in [0, 1]")


def combine(values: Sequence[float], options: Options) -> Score:
    """In [0, 1]."""
    if len(values) < 2:
        return Score(None, "the pair has one case only")
    gap = max(values) - min(values)
    if not gap <= 1:
        return Score(None, f"{options.of!r} has values that differ by more than 1", error="not_in_unit_interval")
    return Score(gap)


plugin = Derived(
    Options, "unit", "pair", combine, better="lower", source="counterfactual fairness gap, Kusner et al. 2017"
)
