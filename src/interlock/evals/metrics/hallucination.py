"""Share of the answer's sentences that neither the context nor the retrieved passages support."""

from __future__ import annotations

from interlock.evals.metrics._grounded import Options, grounded
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


async def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1]."""
    told = await grounded(case, output, options, instruments)
    if isinstance(told, Score):
        return told
    unsupported = told.total - told.supported
    return Score(unsupported / told.total, f"{unsupported} of {told.total} sentences not supported")


plugin = Metric(Options, "unit", score, better="lower", needs=frozenset({"checker"}))
