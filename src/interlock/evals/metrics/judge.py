"""What a calibrated model thinks of the answer, by a rubric of your own, alone or against the reference."""

from __future__ import annotations

from interlock.evals.judges.asking import Unreadable, rate
from interlock.evals.judges.named import JudgedBy, spec_of
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


async def score(case: Case, output: Output, options: JudgedBy, instruments: Instruments) -> Score:
    """Points scaled to [0, 1]; 0 or 1 for a judge with `passes_at`."""
    if instruments.ask_judge is None:
        return Score(None, "there is no model that judges")
    spec = spec_of(options, instruments.workspace)
    reference = None
    if spec.kind == "reference":
        if not case.references:
            return Score(None, "the case has no reference text")
        reference = case.references[0]
    try:
        verdict = await rate(
            spec,
            instruments.ask_judge,
            question=case.question,
            answer=output.text,
            reference=reference,
            context=case.context or [found.text for found in output.found if found.text],
        )
    except Unreadable as error:
        return Score(None, str(error), error="judge_unreadable")
    return Score(verdict.value, verdict.reason, cost_nano=verdict.cost_nano)


plugin = Metric(JudgedBy, "unit", score, needs=frozenset({"judge"}))
