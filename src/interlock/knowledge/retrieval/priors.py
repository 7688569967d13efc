"""What a document is worth before anybody asks: its age, and who says it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from interlock.core.passages import Passage
from interlock.knowledge.retrieval.settings import AuthoritySettings, FreshnessSettings
from interlock.knowledge.sources import matches
from interlock.knowledge.types import DocumentInfo

__all__ = ["authority_of", "freshness_of", "weighed"]


def weighed(passages: Sequence[Passage], worth: Callable[[Passage], float], weight: float) -> tuple[list[Passage], int]:
    """Passages by their score times ``1 - weight * (1 - worth)``: a prior lowers, it never lifts the irrelevant.

    Args:
        passages: best first.
        worth: in [0, 1].
        weight: the most that is taken away, in [0, 1].

    Returns: best first, ties in the order given; and how many changed their place.
    """
    scored = [replace(p, score=p.score * (1.0 - weight * (1.0 - worth(p)))) for p in passages]
    ranked = sorted(scored, key=lambda p: -p.score)
    return ranked, sum(a.id != b.id for a, b in zip(passages, ranked, strict=True))


def freshness_of(info: DocumentInfo, settings: FreshnessSettings, at: datetime) -> float:
    """1 for a document of `at` or later, half of it after each half-life, `unknown` without a date."""
    if settings.field == "document.ingested_at":
        moment = info.ingested_at
    else:
        moment = _moment(info.metadata.get(settings.field, ""))
    if moment is None:
        return settings.unknown
    days = max(0.0, (at - moment).total_seconds() / 86_400)
    return float(0.5 ** (days / settings.half_life_days))


def authority_of(info: DocumentInfo, settings: AuthoritySettings) -> float:
    """What a document's value is worth, `unknown` without one; always in [0, 1]."""
    found = info.source if settings.field == "document.source" else info.metadata.get(settings.field)
    if found is None:
        return settings.unknown
    if settings.values:
        worth = next((worth for pattern, worth in settings.values.items() if _fits(pattern, found)), settings.unknown)
    else:
        try:
            worth = float(found)
        except ValueError:
            worth = settings.unknown
    return min(1.0, max(0.0, worth)) if worth == worth else settings.unknown  # noqa: PLR0124 - NaN is no worth


def _fits(pattern: str, value: str) -> bool:
    return pattern.casefold() == value.strip().casefold() or matches(pattern, value)


def _moment(text: str) -> datetime | None:
    text = text.strip()
    try:
        if len(text) == 4 and text.isdigit():
            return datetime(int(text), 12, 31, tzinfo=UTC)
        if len(text) == 10:
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
