"""Share of the answer's sentences that the context or the retrieved passages support, each checked on its own."""

from __future__ import annotations

from interlock.evals.metrics._grounded import Options, grounded
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


async def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1]; 0 when claims are made and nothing is there that they could rest on."""
    told = await grounded(case, output, options, instruments)
    if isinstance(told, Score):
        return told
    return Score(told.supported / told.total, f"{told.supported} of {told.total} sentences supported")


plugin = Metric(
    Options,
    "unit",
    score,
    needs=frozenset({"checker"}),
    source="faithfulness as in Es et al. 2023, a checker for a judge",
)
