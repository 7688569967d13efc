"""Whether a calibrated model prefers the answer to the reference, asked in both orders; a flip counts as a tie."""

from __future__ import annotations

from interlock.evals.judges.asking import Unreadable, compare
from interlock.evals.judges.named import JudgedBy, spec_of
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


async def score(case: Case, output: Output, options: JudgedBy, instruments: Instruments) -> Score:
    """1 when the answer wins, 0.5 for a tie, 0 when the reference does."""
    if instruments.ask_judge is None:
        return Score(None, "there is no model that judges")
    spec = spec_of(options, instruments.workspace)
    if not case.references:
        return Score(None, "the case has no reference text to compare with")
    try:
        verdict = await compare(
            spec, instruments.ask_judge, question=case.question, first=output.text, second=case.references[0]
        )
    except Unreadable as error:
        return Score(None, str(error), error="judge_unreadable")
    reason = f"the order decided: {verdict.reason}" if verdict.flipped else verdict.reason
    return Score(verdict.value, reason, cost_nano=verdict.cost_nano)


plugin = Metric(JudgedBy, "unit", score, needs=frozenset({"judge"}))
