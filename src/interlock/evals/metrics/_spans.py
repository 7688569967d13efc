"""Where citations and a case's evidence meet."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from interlock.evals.metrics._words import plain
from interlock.evals.types import CitedSpan, Evidence

__all__ = ["characters", "common", "meets", "places"]

_LEAST_OVERLAP = 0.5
"""Share of the shorter text that must be common for two quotes to overlap."""
Ranges = Mapping[str, Sequence[tuple[int, int]]]


def meets(evidence: Evidence, citation: CitedSpan) -> bool:
    """Whether they point to the same place: by characters where both have them, else by words, page, document."""
    if citation.source != evidence.source:
        return False
    if evidence.start is not None and evidence.end is not None and citation.start is not None:
        return citation.start < evidence.end and evidence.start < (citation.end or citation.start)
    if evidence.quote:
        wanted, quote = plain(evidence.quote), plain(citation.quote)
        if not wanted or not quote:
            return False
        found = difflib.SequenceMatcher(None, wanted, quote, autojunk=False).find_longest_match()
        return found.size >= _LEAST_OVERLAP * min(len(wanted), len(quote))
    if evidence.start is not None:
        return False
    return evidence.page is None or evidence.page == citation.page


def places(evidence: Iterable[Evidence]) -> list[list[Evidence]]:
    """Evidence that says the same stands together: one of it is enough."""
    found: dict[tuple[str, int | str], list[Evidence]] = {}
    for number, each in enumerate(evidence):
        found.setdefault(("place", each.place) if each.place else ("alone", number), []).append(each)
    return list(found.values())


def characters(spans: Iterable[CitedSpan] | Iterable[Evidence]) -> Ranges | None:
    """Character ranges by document, none overlapping another; None when one of them has no offsets."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for each in spans:
        if each.start is None or each.end is None or each.end <= each.start:
            return None
        ranges.setdefault(each.source, []).append((each.start, each.end))
    joined: dict[str, list[tuple[int, int]]] = {}
    for source, found in ranges.items():
        merged: list[tuple[int, int]] = []
        for start, end in sorted(found):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((start, end))
        joined[source] = merged
    return joined


def common(one: Ranges, other: Ranges) -> int:
    """Characters that both cover."""
    return sum(
        max(0, min(end, end2) - max(start, start2))
        for source, found in one.items()
        for start, end in found
        for start2, end2 in other.get(source, ())
    )
