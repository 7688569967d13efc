"""Share of the answer's citations whose words support the claim that they back."""

from __future__ import annotations

from interlock.evals.metrics._claims import claims
from interlock.evals.metrics._words import encodable
from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.types import Case, CitedSpan, Output, Score

__all__ = ["plugin"]


async def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> Score:
    """In [0, 1]. A citation that names no claim is held against every sentence: one that it supports is enough."""
    if instruments.check_claim is None:
        return Score(None, "there is no checker of claims")
    if not output.citations:
        return Score(None, "nothing is cited")
    stated = claims(output.text)
    supported = 0
    for citation in output.citations:
        words = _words(citation, output)
        if not words:
            continue
        for claim in [citation.claim] if citation.claim.strip() else stated:
            if (await instruments.check_claim(encodable(claim), words)).supported:
                supported += 1
                break
    return Score(supported / len(output.citations), f"{supported} of {len(output.citations)} citations")


def _words(citation: CitedSpan, output: Output) -> list[str]:
    if citation.quote.strip():
        return [encodable(citation.quote)]
    return [encodable(found.text) for found in output.found if found.source == citation.source and found.text.strip()]


plugin = Metric(
    NoOptions,
    "unit",
    score,
    needs=frozenset({"checker"}),
    source="after the citation precision of Gao et al. 2023 (ALCE)",
)
