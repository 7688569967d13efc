"""Inline markers ``[n]`` and the citations behind them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from interlock.core.passages import Citation, Passage, Span
from interlock.knowledge.grounding.types import Evidence, Verdict

__all__ = ["Citations", "cite", "markers", "with_markers", "without_markers"]

_MARKER = re.compile(r"\s*\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_END = re.compile(r"([.!?…。！？]+[\"'”’)]*)?\s*$")


def markers(text: str) -> tuple[int, ...]:
    """Numbers of the inline markers of `text`, distinct, in order of first use.

    >>> markers("Within 30 days [2], not later [1, 2].")
    (2, 1)
    """
    numbers = [int(number) for match in _MARKER.finditer(text) for number in re.findall(r"\d+", match.group(1))]
    return tuple(dict.fromkeys(numbers))


def without_markers(text: str) -> str:
    """`text` without its markers and the blanks before them."""
    return _MARKER.sub("", text).strip()


def with_markers(text: str, numbers: Sequence[int]) -> str:
    """`text` with its markers before the final stop: ``… within 30 days [1].``

    >>> with_markers("Within 30 days.", [1, 2])
    'Within 30 days [1][2].'
    """
    plain = text.rstrip()
    end = _END.search(plain)
    stop = (end.group(1) or "") if end else ""
    body = plain[: len(plain) - len(stop)].rstrip() if stop else plain
    return f"{body} {''.join(f'[{n}]' for n in numbers)}{stop or '.'}"


def cite(evidence: Evidence, marker: int, verdict: Verdict) -> Citation:
    """A citation of exactly the evidence's characters."""
    return _citation(evidence.passage, evidence.span, evidence.text, marker, verdict)


def _citation(passage: Passage, span: Span, quote: str, marker: int, verdict: Verdict) -> Citation:
    start = span.start - passage.span.start
    if passage.text[start : start + len(quote)] != quote or span.end - span.start != len(quote):
        raise ValueError("a citation's quote is the text at its span")
    return Citation(
        marker=marker,
        passage_id=passage.id,
        document_id=passage.document_id,
        document_digest=passage.document_digest,
        source=passage.source,
        title=passage.title,
        page=passage.page,
        span=span,
        quote=quote,
        support="supported" if verdict.supported else "unsupported",
        score=verdict.score,
    )


@dataclass(slots=True)
class Citations:
    """Numbers evidence in order of first use, the same evidence always the same."""

    _known: dict[tuple[str, int, int], Citation] = field(default_factory=dict)

    def add(self, evidence: Evidence, verdict: Verdict) -> Citation:
        """The evidence's citation, numbered now if it is new."""
        key = (evidence.passage.document_digest, evidence.span.start, evidence.span.end)
        if key not in self._known:
            self._known[key] = cite(evidence, len(self._known) + 1, verdict)
        return self._known[key]

    @property
    def all(self) -> tuple[Citation, ...]:
        """Distinct, by marker."""
        return tuple(self._known.values())
