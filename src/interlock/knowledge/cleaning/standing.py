"""Which of several documents speaks first: by what they, their source file, their titles and their paths say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from interlock.core.ids import DocumentId

__all__ = ["Candidate", "Standing", "standing_of", "stem_of", "subject_of"]

_WITHDRAWN = frozenset({"withdrawn", "superseded", "obsolete", "archived"})
_DRAFT = frozenset({"draft", "proposed", "wip"})
_DATES = ("valid_from", "effective", "effective_date", "published", "date", "updated", "last_modified", "modified")
_ISO = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.]?(0[1-9]|1[0-2])(?:[-_.]?(0[1-9]|[12]\d|3[01]))?(?!\d)")
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")
_VERSION = re.compile(r"(?<![a-z0-9])v(?:ersion|\.)?[ _.-]?(\d{1,4}(?:\.\d{1,4}){0,3})(?![a-z0-9])", re.IGNORECASE)
_PLAIN_VERSION = re.compile(r"(?<![\d.])(\d{1,4}(?:\.\d{1,4}){1,3})(?![\d.])")
_EDITION = re.compile(
    r"(?<![a-z])(?:draft|final|old|new|copy|rev(?:ision)?[ _.-]?\d+|ed(?:ition)?[ _.-]?\d+)(?![a-z])", re.IGNORECASE
)
_REST = re.compile(r"[\W_]+")


class Standing(NamedTuple):
    """Compared as a tuple, the greater one speaks first."""

    authority: tuple[int, float]
    """-1 withdrawn, 0 draft, 1 else; then the number under `authority`."""
    date: date
    version: tuple[int, ...]

    @property
    def says_nothing(self) -> bool:
        """Whether the document says nothing of what it is compared by."""
        return self == Standing((1, 0.0), date.min, ())


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document among others."""

    id: DocumentId
    source: str
    title: str
    readers: Set[str]
    standing: Standing

    def order(self) -> tuple[object, ...]:
        """Sorts the one that speaks first to the front; never the same for two."""
        authority, when, version = self.standing
        negative = tuple(-part for part in version)
        first = (-authority[0], -authority[1], -when.toordinal(), _longer_first(negative))
        return (*first, len(self.source), self.source, self.id)


def _longer_first(version: tuple[int, ...]) -> tuple[int, ...]:
    """1.2.1 stands before 1.2, and both before nothing."""
    return (*version, 1)


def standing_of(title: str, source: str, facts: Mapping[str, str]) -> Standing:
    """What a document says about its own place."""
    status = facts.get("status", "").casefold()
    level = -1 if status in _WITHDRAWN or facts.get("superseded_by") else 0 if status in _DRAFT else 1
    name = f"{source.rpartition('/')[2]} {title}"
    return Standing((level, _number(facts.get("authority", ""))), _date(facts, source, title), _version(facts, name))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if abs(value) < 1e9 else 0.0  # nan and inf compare with nothing


def _date(facts: Mapping[str, str], source: str, title: str) -> date:
    stated = (facts.get(name, "") for name in _DATES)
    for text in (*stated, source.rpartition("/")[2], title, source):
        found = _ISO.search(text)
        if found:
            try:
                return date(int(found[1]), int(found[2]), int(found[3] or 1))
            except ValueError:
                continue
        year = _YEAR.search(text)
        if year:
            return date(int(year[1]), 1, 1)
    return date.min


def _version(facts: Mapping[str, str], name: str) -> tuple[int, ...]:
    stated = re.search(r"\d{1,6}(?:\.\d{1,6}){0,3}", facts.get("version", ""))
    found = stated[0] if stated else None
    if found is None:
        named = _VERSION.search(name)
        found = named[1] if named else None
    return tuple(int(part) for part in found.split(".")) if found else ()


def subject_of(title: str) -> str:
    """What a title is about: without versions, dates and editions."""
    return _bare(title, _EDITION)


def _bare(text: str, *more: re.Pattern[str]) -> str:
    for pattern in (_ISO, _VERSION, _PLAIN_VERSION, _YEAR, *more):
        text = pattern.sub(" ", text)
    return _REST.sub(" ", text).strip().casefold()


def stem_of(source: str, title: str) -> str:
    """The name of a document without versions and dates; empty when neither its path nor its title names any."""
    name = source.rpartition("/")[2].rpartition(".")[0] or source
    for text, more in ((name, (_EDITION,)), (title, ())):
        bare = _bare(text, *more)
        if bare != _bare_of_nothing(text):
            return bare
    return ""


def _bare_of_nothing(text: str) -> str:
    return _REST.sub(" ", text).strip().casefold()
