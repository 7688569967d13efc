"""Citations of an app's answer as the APIs' own annotations, read from the extension field `interlock`.

Only confirmed claims become annotations: no API has one for "not confirmed", which therefore stands in the text
itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Cited", "char_locations", "cited_in", "url_citations"]

# Any in this module: JSON of our own views.


class Cited(NamedTuple):
    """One confirmed claim of the answer."""

    start: int
    end: int
    """Characters of the answer's text."""
    citation: Mapping[str, Any]


def cited_in(text: str, extension: Mapping[str, Any] | None) -> list[Cited]:
    """Every confirmed claim with its citation, in order. A claim that is not found in the text any more is left out."""
    facts = extension or {}
    starts: list[int] = []
    at = 0
    for sentence in facts.get("sentences") or ():
        place = text.find(sentence["text"], at)
        starts.append(place)
        at = place + len(sentence["text"]) if place >= 0 else at
    found: list[Cited] = []
    for claim in facts.get("support_map") or ():
        number, evidence = claim["sentence"], claim["evidence"]
        if number is None or evidence is None or claim["support"] != "supported" or starts[number] < 0:
            continue
        start, end = starts[number] + claim["start"], starts[number] + claim["end"]
        if text[start:end] == claim["text"]:
            found.append(Cited(start, end, evidence))
    return found


def url_citations(found: list[Cited]) -> list[dict[str, Any]]:
    """OpenAI's `url_citation`, flat as /v1/responses has it."""
    return [
        {
            "type": "url_citation",
            "start_index": one.start,
            "end_index": one.end,
            "title": one.citation["title"],
            "url": one.citation["url"],
        }
        for one in found
    ]


def char_locations(found: list[Cited]) -> list[dict[str, Any]]:
    """Anthropic's `char_location`: exact characters of a document; documents are numbered in order of first use."""
    numbers: dict[str, int] = {}
    return [
        {
            "type": "char_location",
            "cited_text": one.citation["quote"],
            "document_index": numbers.setdefault(str(one.citation["document"]), len(numbers)),
            "document_title": one.citation["title"],
            "start_char_index": one.citation["start"],
            "end_char_index": one.citation["end"],
            "file_id": None,
        }
        for one in found
    ]
