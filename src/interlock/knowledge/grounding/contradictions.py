"""Places of different documents that cannot both hold, and which of them is to be believed.

Made to be right when it speaks: two sentences of two documents under the same headings that share most of their words
and differ in a number with the same unit, or in a negation. Rows of tables are not compared, and two documents that
say the same thing in other words are not found out. Headings are compared without their years and version numbers:
"Returns 2024" and "Returns 2025" are about the same, "Premier plan" and "Basic plan" are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from interlock.core.passages import Passage
from interlock.knowledge.analysers import analyse
from interlock.knowledge.grounding.facts import Token, tokens
from interlock.knowledge.grounding.types import Evidence, Selection

__all__ = ["Conflict", "contradictions", "standing_of"]

_ALIKE = 0.6
"""Share of content words that two sentences must have in common."""
_ALIKE_NEGATED = 0.75
_SAME_HEADING = 0.5
_FEWEST = 3
"""Content words in common, at least."""
_MOST = 3
"""Contradictions of one answer that are told."""
_DATES = ("effective", "effective_date", "valid_from", "updated", "last_updated", "modified", "date", "published")
"""Document facts that say how new it is, the most telling first."""
_RANKS = {
    "authoritative": 3, "official": 3, "primary": 3, "approved": 3, "internal": 2, "normal": 2, "secondary": 1,
    "unofficial": 0, "community": 0, "draft": 0,
}  # fmt: skip
_NOT_A_SUBJECT = re.compile(r"^(?:v?\d[\w.]*|version|edition|rev|revision|old|new|current|former|draft|copy|final)$")

Decided = Literal["authority", "date", "version", ""]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two pieces of evidence that cannot both hold."""

    believed: Evidence
    other: Evidence
    kind: Literal["number", "negation"]
    decided_by: Decided


def contradictions(selection: Selection) -> tuple[Conflict, ...]:
    """What the chosen evidence is contradicted by among the other documents found, at most three. Pure, about 5 ms."""
    found: list[Conflict] = []
    sides: set[tuple[str, int]] = set()
    for chosen in selection.evidence:
        if chosen.is_row:
            continue
        said = tokens(chosen.text)
        for other in selection.units:
            if other.is_row or other.passage.document_id == chosen.passage.document_id:
                continue
            key = (other.passage.document_id, other.span.start)
            kind = None if key in sides else _differ(said, tokens(other.text))
            if kind is None or not _about_the_same(chosen, other):
                continue
            sides |= {key, (chosen.passage.document_id, chosen.span.start)}
            found.append(_ordered(chosen, other, kind))
            if len(found) == _MOST:
                return tuple(found)
    return tuple(found)


def _differ(a: Sequence[Token], b: Sequence[Token]) -> Literal["number", "negation"] | None:
    ours, theirs = _content(a), _content(b)
    common = ours & theirs
    alike = len(common) / max(1, len(ours | theirs))
    if len(common) < _FEWEST or alike < _ALIKE or _names(a) != _names(b):
        return None
    counted, also = _counted(a), _counted(b)
    negated = _negations(a) != _negations(b)
    if counted != also and not negated and {unit for _, unit in counted} == {unit for _, unit in also}:
        return "number" if len(counted) == len(also) else None
    return "negation" if counted == also and negated and alike >= _ALIKE_NEGATED else None


def _content(found: Iterable[Token]) -> set[str]:
    return {t.key for t in found if t.kind in {"word", "name"}}


def _names(found: Sequence[Token]) -> set[str]:
    return {t.key for t in found if t.kind == "name"}


def _negations(found: Iterable[Token]) -> int:
    return sum(t.kind == "negation" for t in found) % 2


def _counted(found: Sequence[Token]) -> set[tuple[str, str]]:
    """Each number with the word that says what it counts."""
    counted: set[tuple[str, str]] = set()
    for i, token in enumerate(found):
        if token.kind == "number":
            unit = next((t.key for t in found[i + 1 : i + 3] if t.kind in {"word", "name"}), "")
            counted.add((token.key, unit))
    return counted


def _about_the_same(a: Evidence, b: Evidence) -> bool:
    ours, theirs = _subject(a), _subject(b)
    return not (ours | theirs) or len(ours & theirs) / len(ours | theirs) >= _SAME_HEADING


def _subject(evidence: Evidence) -> set[str]:
    return {term for term in analyse(evidence.heading) if not _NOT_A_SUBJECT.match(term)}


def _ordered(a: Evidence, b: Evidence, kind: Literal["number", "negation"]) -> Conflict:
    mine, theirs = standing_of(a.passage), standing_of(b.passage)
    names: tuple[Decided, ...] = ("authority", "date", "version")
    for name, left, right in zip(names, mine, theirs, strict=True):
        # A document that does not say is not older than one that does.
        if left is not None and right is not None and left != right:
            first, second = (a, b) if left > right else (b, a)  # type: ignore[operator]  # both of one kind
            return Conflict(first, second, kind, name)
    ranks = _linked(a.passage, b.passage)
    if ranks is not None:
        first, second = (a, b) if ranks[0] < ranks[1] else (b, a)
        return Conflict(first, second, kind, "version")
    return Conflict(a, b, kind, "")


def _linked(a: Passage, b: Passage) -> tuple[int, int] | None:
    """Places of two versions that an ingest linked, 1 for the newest; None where no order is known."""
    mine, theirs = dict(a.metadata), dict(b.metadata)
    if not mine.get("version_group") or mine["version_group"] != theirs.get("version_group"):
        return None
    ranks = [re.match(r"\d{1,6}", facts.get("version_rank", "")) for facts in (mine, theirs)]
    # All but the newest name the newest, where that is known.
    if not any("newer_version" in facts for facts in (mine, theirs)) or ranks[0] is None or ranks[1] is None:
        return None
    first, second = int(ranks[0].group()), int(ranks[1].group())
    return None if first == second else (first, second)


def standing_of(passage: Passage) -> tuple[int | None, date | None, tuple[int, ...] | None]:
    """What a document's facts say of its authority, its date and its version; None for what they do not say."""
    facts = dict(passage.metadata)
    authority = facts.get("authority", "").strip().lower()
    rank = int(authority) if re.fullmatch(r"\d{1,6}", authority) else _RANKS.get(authority)
    dated = next((day for key in _DATES if (day := _day(facts.get(key, ""))) is not None), None)
    numbers = tuple(int(n) for n in re.findall(r"\d{1,9}", facts.get("version", ""))[:4])
    return rank, dated, numbers or None


def _day(text: str) -> date | None:
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=UTC).date() if text.strip() else None
    except ValueError:
        return None
