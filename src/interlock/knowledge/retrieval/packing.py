"""Evidence widened to the sections it stands in, and put in the order a model reads best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from interlock.core.ids import DocumentId
from interlock.core.passages import Passage, Span
from interlock.knowledge.ports import CountTokens
from interlock.knowledge.retrieval.settings import PackingSettings
from interlock.knowledge.types import HEADING_SEPARATOR

__all__ = ["ordered", "widened"]


def ordered(passages: Sequence[Passage], order: str) -> list[Passage]:
    """Passages as `PackingSettings.order` says.

    Args:
        passages: best first.

    """
    if order == "best_at_ends":
        # A model overlooks most in the middle (Liu et al., TACL 2024).
        return [*passages[0::2], *reversed(passages[1::2])]
    if order == "document_order":
        best: dict[DocumentId, int] = {}
        for rank, passage in enumerate(passages):
            best.setdefault(passage.document_id, rank)
        return sorted(passages, key=lambda p: (best[p.document_id], p.document_digest, p.span))
    return list(passages)


def widened(
    passages: Sequence[Passage],
    settings: PackingSettings,
    *,
    neighbours: Mapping[DocumentId, Sequence[Passage]],
    texts: Mapping[str, str],
    budget_tokens: int,
    count_tokens: CountTokens,
) -> list[Passage]:
    """Each passage with as much of its section around it as the budget has room for, the best one first.

    A section is what stands under the same heading without a break. A passage keeps its id and scores; its text is what
    the document says at its new span, character for character. No two of them overlap when none did.

    Args:
        passages: best first, within the budget.
        neighbours: all readable passages of a document, in its order.
        texts: by document digest; passages of a document that is missing here stay as they are.
        budget_tokens: of all texts together.
        count_tokens: the model's tokeniser, or an estimate of it.
    """
    spare = budget_tokens - sum(count_tokens(passage.text) for passage in passages)
    taken = [(passage.document_digest, passage.document_id, passage.span) for passage in passages]
    found: list[Passage] = []
    for number, passage in enumerate(passages):
        text = texts.get(passage.document_digest)
        around = [p for p in neighbours.get(passage.document_id, ()) if p.document_digest == passage.document_digest]
        if text is None or not around:
            found.append(passage)
            continue
        others = [
            span
            for n, (digest, document, span) in enumerate(taken)
            if n != number and (digest, document) == (passage.document_digest, passage.document_id)
        ]
        own = count_tokens(passage.text)
        most = min(settings.section_tokens, own + max(0, spare))
        span, cost = _grown(passage, around, others, text, own=own, most=most, count_tokens=count_tokens)
        spare -= cost - own
        taken[number] = (passage.document_digest, passage.document_id, span)
        page = next((p.page for p in around if p.span.end > span.start), passage.page)
        found.append(
            passage
            if span == passage.span
            else replace(passage, span=span, text=text[span.start : span.end], page=page)
        )
    return found


def _grown(
    passage: Passage,
    around: Sequence[Passage],
    others: Sequence[Span],
    text: str,
    *,
    own: int,
    most: int,
    count_tokens: CountTokens,
) -> tuple[Span, int]:
    """The widest span that fits, piece by piece: what follows before what precedes, as a reader goes on."""
    span, cost = passage.span, own
    after = [p.span for p in around if p.span.start >= span.end and _same_section(passage, p)]
    before = [p.span for p in reversed(around) if p.span.end <= span.start and _same_section(passage, p)]
    ends = {"after": after, "before": before}
    # A break: the next piece of the document belongs to another section.
    limits = (
        max((p.span.end for p in around if p.span.end <= span.start and not _same_section(passage, p)), default=0),
        min(
            (p.span.start for p in around if p.span.start >= span.end and not _same_section(passage, p)),
            default=len(text),
        ),
    )
    while ends["after"] or ends["before"]:
        for side, rest in ends.items():
            if not rest:
                continue
            piece = rest.pop(0)
            wider = Span(min(span.start, piece.start), max(span.end, piece.end))
            inside = limits[0] <= wider.start and wider.end <= limits[1]
            free = not any(wider.start < other.end and other.start < wider.end for other in others)
            tokens = count_tokens(text[wider.start : wider.end]) if inside and free else most + 1
            if tokens > most:
                ends[side] = []
                continue
            span, cost = wider, tokens
    return span, cost


def _same_section(passage: Passage, other: Passage) -> bool:
    return other.heading == passage.heading or (
        bool(passage.heading) and other.heading.startswith(passage.heading + HEADING_SEPARATOR)
    )
