"""Where the spans of an answer's citations stand on their pages."""

from __future__ import annotations

from dataclasses import replace

from interlock.core.answers import Answer, AnswerEvent, AnswerSentence, Claim, Quote
from interlock.core.context import Context
from interlock.core.errors import NotFound
from interlock.core.passages import Citation, CitedBox, Span
from interlock.knowledge.service import KnowledgeService

__all__ = ["Boxes", "boxed"]

Boxes = dict[tuple[str, Span], tuple[CitedBox, ...]]
"""By text digest and span: what one answer has asked for already."""


async def boxed(ctx: Context, knowledge: KnowledgeService, event: AnswerEvent, known: Boxes) -> AnswerEvent:
    """The event with the boxes of every cited span of a paged document. One read a span, from the layout's blob.

    A document that went away while its answer was written keeps its citation, without boxes.
    """
    for citation in _citations(event):
        key = (citation.document_digest, citation.span)
        if citation.page is not None and key not in known:
            known[key] = await _boxes(ctx, knowledge, citation)

    def placed(citation: Citation) -> Citation:
        found = known.get((citation.document_digest, citation.span), ())
        return replace(citation, boxes=found) if found else citation

    def claim(given: Claim) -> Claim:
        return replace(given, evidence=placed(given.evidence)) if given.evidence else given

    def sentence(given: AnswerSentence) -> AnswerSentence:
        return replace(given, citations=tuple(map(placed, given.citations)), claims=tuple(map(claim, given.claims)))

    if not known:
        return event
    match event:
        case Quote():
            return Quote(placed(event.citation))
        case AnswerSentence():
            return sentence(event)
        case Answer():
            return replace(
                event,
                citations=tuple(map(placed, event.citations)),
                sentences=tuple(map(sentence, event.sentences)),
                contradictions=tuple(
                    replace(one, citations=tuple(map(placed, one.citations))) for one in event.contradictions
                ),
                removed=tuple(map(claim, event.removed)),
            )


def _citations(event: AnswerEvent) -> list[Citation]:
    match event:
        case Quote():
            return [event.citation]
        case AnswerSentence():
            return [*event.citations, *(c.evidence for c in event.claims if c.evidence)]
        case Answer():
            own = [c.evidence for sentence in event.sentences for c in sentence.claims if c.evidence]
            return [*event.citations, *own, *(c.evidence for c in event.removed if c.evidence)]


async def _boxes(ctx: Context, knowledge: KnowledgeService, citation: Citation) -> tuple[CitedBox, ...]:
    try:
        pages = await knowledge.span_boxes(ctx, citation.document_id, citation.span, citation.document_digest)
    except NotFound:
        return ()
    return tuple(CitedBox(box.page, box.left, box.top, box.right, box.bottom) for page in pages for box in page.boxes)
