"""Whether the right tools are called, by name: F1, precision or recall against the case's calls."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._calls import NO_CALLS, allowed, required
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """What is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    report: Literal["f1", "precision", "recall"] = Field(default="f1", description="what is given")


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1]. Optional calls are neither missed nor wrong; with ``calls: []`` it is right to call nothing."""
    if case.calls is None:
        return Score(None, NO_CALLS)
    wanted, made = Counter(call.name for call in required(case)), Counter(call.name for call in output.calls)
    recall = (wanted & made).total() / wanted.total() if wanted else 1.0
    precision = allowed(case, output.calls) / made.total() if made else float(not wanted)
    both = precision + recall
    value = {"f1": 2 * precision * recall / both if both else 0.0, "precision": precision, "recall": recall}
    return Score(value[options.report])


plugin = Metric(Options, "unit", score)
