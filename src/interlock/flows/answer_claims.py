"""From judged claims to the sentences that are shown: the app's policy for what its check refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from interlock.core.answers import AnswerSentence, Claim, Contradiction, Origin
from interlock.core.passages import Citation, Span
from interlock.knowledge.grounding.citations import Citations, cite, with_markers
from interlock.knowledge.grounding.contradictions import Conflict
from interlock.knowledge.grounding.types import AnswerSpec, Evidence, Judged, Verdict

__all__ = ["Refused", "Shown", "claim_of", "contradicted", "quoted", "recheck", "shown"]

QUOTED = Verdict(True, 1.0, "ok")
_STOPS = ".!?…"


class Refused(Exception):
    """A claim failed its check and the app declines such answers."""

    def __init__(self, claims: tuple[Claim, ...]) -> None:
        super().__init__()
        self.claims = claims


@dataclass(slots=True)
class Shown:
    """What becomes of one written sentence."""

    sentences: list[AnswerSentence] = field(default_factory=list)
    removed: list[Claim] = field(default_factory=list)
    missed: list[Evidence] = field(default_factory=list)
    """What refused claims should have said: for a quote in their place."""


def quoted(evidence: Evidence, citations: Citations) -> AnswerSentence:
    """The evidence word for word."""
    citation = citations.add(evidence, QUOTED)
    text = evidence.readable
    claim = Claim(Span(0, len(text)), text, "supported", 1.0, "ok", "rules", citation)
    return AnswerSentence(with_markers(text, [citation.marker]), (citation,), "extracted", (_placed(claim, text),))


def claim_of(judged: Judged, citation: Citation | None) -> Claim:
    """The claim as the answer keeps it: with the citation it rests on, or what comes nearest under marker 0."""
    evidence = citation
    if evidence is None and judged.evidence is not None:
        evidence = cite(judged.evidence, 0, judged.verdict)
    return Claim(
        judged.span,
        judged.text,
        "supported" if judged.verdict.supported else "unsupported",
        judged.verdict.score,
        judged.verdict.reason,
        judged.checker,
        evidence,
    )


def shown(
    text: str, judged: Sequence[Judged], citations: Citations, spec: AnswerSpec, *, origin: Origin = "generated"
) -> Shown:
    """What is shown of a written sentence under the app's policy.

    Args:
        text: without markers; the spans of `judged` point into it.

    Raises: Refused: a claim is unsupported and the policy is `decline`.
    """
    refused = [one for one in judged if not one.verdict.supported]
    if refused and spec.unsupported == "decline":
        raise Refused(tuple(claim_of(one, None) for one in refused))
    if not refused or spec.unsupported == "flag":
        return Shown([_marked(text, judged, citations, spec.flag_text, origin)])
    result = Shown(removed=[claim_of(one, None) for one in refused])
    for one in judged:
        if one.verdict.supported:
            alone = replace(one, span=Span(0, len(one.reads.rstrip(_STOPS))), text=one.reads.rstrip(_STOPS))
            result.sentences.append(_marked(one.reads, [alone], citations, spec.flag_text, "repaired"))
        elif one.evidence is not None:
            result.missed.append(one.evidence)
    return result


def _marked(
    text: str, judged: Sequence[Judged], citations: Citations, flag_text: str, origin: Origin
) -> AnswerSentence:
    """The sentence with a marker behind each claim: its citation's number, or the app's words for a refused one."""
    shown_text, at = "", 0
    used: dict[int, Citation] = {}
    claims: list[Claim] = []
    for place, one in enumerate(judged):
        citation = None
        if one.verdict.supported and one.evidence is not None:
            citation = citations.add(one.evidence, one.verdict)
            used[citation.marker] = citation
        shown_text += text[at : one.span.start]
        span = Span(len(shown_text), len(shown_text) + len(one.text))
        shown_text += text[one.span.start : one.span.end]
        at = one.span.end
        # One marker serves neighbouring claims that rest on the same place.
        follows = judged[place + 1] if place + 1 < len(judged) else None
        again = follows is not None and follows.verdict.supported and follows.evidence == one.evidence
        if citation is None:
            shown_text += f" {flag_text}"
        elif not again:
            shown_text += f" [{citation.marker}]"
        claims.append(replace(claim_of(one, citation), span=span))
    rest = text[at:].strip()
    shown_text += rest if rest and rest[0] in _STOPS else "."
    return AnswerSentence(shown_text, tuple(used.values()), origin, tuple(claims))


def _placed(claim: Claim, text: str) -> Claim:
    """The claim's span within a sentence that `with_markers` may have taken a stop from."""
    plain = text.rstrip().rstrip(_STOPS + "\"'”’)。！？")
    end = len(plain.rstrip())
    return replace(claim, span=Span(0, end), text=text[:end])


_WORDS = {
    "authority": "A less authoritative document says otherwise than [{marker}]",
    "date": "An older document says otherwise than [{marker}]",
    "version": "An older version says otherwise than [{marker}]",
    "": "Another document says otherwise than [{marker}], and nothing in them says which one holds",
}


def contradicted(conflict: Conflict, citations: Citations) -> tuple[AnswerSentence, Contradiction]:
    """The sentence that tells of a contradiction, behind the quote that is believed; both are cited."""
    believed = citations.add(conflict.believed, QUOTED)
    other = citations.add(conflict.other, QUOTED)
    lead = _WORDS[conflict.decided_by].format(marker=believed.marker) + ": “"
    quote = conflict.other.readable
    text = f"{lead}{quote}” [{other.marker}]."
    claim = Claim(Span(len(lead), len(lead) + len(quote)), quote, "supported", 1.0, "ok", "rules", other)
    sentence = AnswerSentence(text, (believed, other), "extracted", (claim,))
    return sentence, Contradiction((believed, other), conflict.kind, conflict.decided_by)


def recheck(sentence: AnswerSentence, check: Callable[[str], str]) -> tuple[Claim, ...]:
    """The claims of a sentence whose text a guardrail changed: those that can be found in it by their new text."""
    text, at = check(sentence.text), 0
    kept: list[Claim] = []
    for claim in sentence.claims:
        said = check(claim.text)
        evidence = replace(claim.evidence, quote=check(claim.evidence.quote)) if claim.evidence else None
        found = text.find(said, at)
        if found >= 0:
            at = found + len(said)
            kept.append(replace(claim, span=Span(found, at), text=said, evidence=evidence))
    return tuple(kept)
