"""What the API shows of answers: the documented extension field `interlock`."""

from __future__ import annotations

from typing import Any

from interlock.core.answers import Answer, AnswerSentence, Claim, Contradiction
from interlock.core.passages import Citation, Passage
from interlock.flows.chat import Receipt
from interlock.flows.several_searches import score_of

__all__ = ["answer_view", "citation_view", "claim_view", "finished_view", "passage_view", "receipt_view", "support_map"]

# Any in this module: JSON objects on their way out.


def citation_view(citation: Citation) -> dict[str, Any]:
    """One citation: `start` and `end` are characters of the document's extracted text of version `digest`, `boxes` the
    lines and cells they touch on its pages.
    """
    return {
        "marker": citation.marker,
        "document": citation.document_id,
        "digest": citation.document_digest,
        "source": citation.source,
        "title": citation.title,
        "page": citation.page,
        "start": citation.span.start,
        "end": citation.span.end,
        "quote": citation.quote,
        "support": citation.support,
        "score": round(citation.score, 4),
        "boxes": [
            {"page": b.page, "left": b.left, "top": b.top, "right": b.right, "bottom": b.bottom} for b in citation.boxes
        ],
        "url": f"/documents/{citation.document_id}?start={citation.span.start}&end={citation.span.end}"
        f"&digest={citation.document_digest}",
    }


def passage_view(passage: Passage) -> dict[str, Any]:
    """One retrieved passage: how near it is to the question by itself, and the scores of both legs."""
    return {
        "id": passage.id,
        "document": passage.document_id,
        "source": passage.source,
        "title": passage.title,
        "heading": passage.heading,
        "page": passage.page,
        "start": passage.span.start,
        "end": passage.span.end,
        "text": passage.text,
        "score": round(score_of(passage), 4),
        "dense_score": None if passage.dense_score is None else round(passage.dense_score, 4),
        "lexical_score": None if passage.lexical_score is None else round(passage.lexical_score, 4),
    }


def claim_view(claim: Claim) -> dict[str, Any]:
    """One claim: `start` and `end` are characters of its sentence; `evidence` is what it rests on, or, of a refused
    one, what comes nearest (marker 0).
    """
    return {
        "start": claim.span.start,
        "end": claim.span.end,
        "text": claim.text,
        "support": claim.support,
        "score": round(claim.score, 4),
        "reason": claim.reason,
        "checker": claim.checker,
        "evidence": citation_view(claim.evidence) if claim.evidence else None,
    }


def support_map(answer: Answer) -> list[dict[str, Any]]:
    """Which claim rests on what: one row a claim, those that are not in the text (`sentence` null) last."""
    rows = [
        {"sentence": number, **claim_view(claim)}
        for number, sentence in enumerate(answer.sentences)
        for claim in sentence.claims
    ]
    return [*rows, *({"sentence": None, **claim_view(claim)} for claim in answer.removed)]


def _sentence(sentence: AnswerSentence) -> dict[str, Any]:
    return {
        "text": sentence.text,
        "origin": sentence.origin,
        "support": sentence.support,
        "markers": [citation.marker for citation in sentence.citations],
    }


def _contradiction(found: Contradiction) -> dict[str, Any]:
    """The first marker is the one to be believed."""
    return {
        "markers": [citation.marker for citation in found.citations],
        "kind": found.kind,
        "decided_by": found.decided_by or None,
    }


def answer_view(answer: Answer) -> dict[str, Any]:
    """How an answer came about, and what it rests on."""
    return {
        "outcome": answer.outcome,
        "decline_reason": answer.decline_reason or None,
        "answerability": round(answer.answerability, 4),
        "citations": [citation_view(citation) for citation in answer.citations],
        "sentences": [_sentence(sentence) for sentence in answer.sentences],
        "support_map": support_map(answer),
        "contradictions": [_contradiction(found) for found in answer.contradictions],
        "options": [{"facet": option.facet, "value": option.value} for option in answer.options],
        "passages": [passage_view(passage) for passage in answer.passages],
        "conflicts": list(answer.conflicts),
        "degraded": answer.degraded or None,
        "snapshot": answer.snapshot or None,
        "space": answer.space or None,
        "as_of": answer.as_of.isoformat() if answer.as_of else None,
        "stale": answer.stale,
    }


def finished_view(answer: Answer, receipt: Receipt) -> dict[str, Any]:
    """A whole answer: its text, what it rests on, and what it cost."""
    return {"text": answer.text, **answer_view(answer), **receipt_view(receipt)}


def receipt_view(receipt: Receipt) -> dict[str, Any]:
    """Trace, release, cost. `cost_usd` is a decimal string, null when a model is unpriced."""
    return {
        "trace_id": receipt.trace_id,
        "release": receipt.release.id if receipt.release else None,
        "channel": receipt.release.channel if receipt.release else None,
        "model": receipt.model,
        "cost_usd": None if receipt.cost is None else f"{receipt.cost.decimal():f}",
        **({"cache": receipt.cache} if receipt.cache else {}),
        **({"degraded_by": receipt.degraded} if receipt.degraded else {}),
    }
