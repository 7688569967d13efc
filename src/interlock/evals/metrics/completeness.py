"""Share of what the answer should say that it does say: the case's facts, else the sentences of its reference."""

from __future__ import annotations

from interlock.evals.metrics._claims import claims
from interlock.evals.metrics._words import encodable, plain
from interlock.evals.ports import CheckClaim, Instruments, Metric, NoOptions
from interlock.evals.types import Case, Output, Score

__all__ = ["plugin"]


async def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """In [0, 1]. What stands in the answer word for word needs no checker; for the rest the answer is the evidence."""
    if instruments.check_claim is None:
        return Score(None, "there is no checker of claims")
    wanted = [each for each in case.facts if any(wording.strip() for wording in each)]
    if not wanted and case.references:
        wanted = [[sentence] for sentence in claims(case.references[0])]
    if not wanted:
        return Score(None, "the case has neither facts nor a reference that states something")
    missing = [
        number
        for number, wordings in enumerate(wanted, start=1)
        if not await _said(wordings, output.text, instruments.check_claim)
    ]
    reason = f"missing: {', '.join(map(str, missing))} of {len(wanted)}" if missing else ""
    return Score(1 - len(missing) / len(wanted), reason)


async def _said(wordings: list[str], text: str, check: CheckClaim) -> bool:
    if not text.strip():
        return False
    given = plain(text)
    told = [wording for wording in wordings if wording.strip()]
    if any(plain(wording) in given for wording in told):
        return True
    for wording in told:
        if (await check(encodable(wording), [encodable(text)])).supported:
            return True
    return False


plugin = Metric(NoOptions, "unit", score, needs=frozenset({"checker"}))
