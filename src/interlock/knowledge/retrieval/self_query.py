"""Values of metadata that a question names: a year, a team, a kind of document.

Only values of documents the asker may read are looked for; a question that names another value finds nothing here and
so learns nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from interlock.knowledge.analysers import UNSPACED
from interlock.knowledge.filters import Condition, Filter
from interlock.knowledge.retrieval.settings import SelfQuerySettings
from interlock.knowledge.types import DocumentInfo

__all__ = ["Recognised", "recognised"]

# Where words are not parted, each character counts as one, and a year has no letter of another script beside it.
_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
_YEAR = re.compile(rf"(?<!(?![{UNSPACED}])\w)(?<![.,-])(19\d\d|20\d\d)(?!(?![{UNSPACED}])\w|-|[.,]\d)")
_CHARACTER = re.compile(rf"[{UNSPACED}]")
_DATE = re.compile(r"(\d{4})-\d\d-\d\d(?:[T ].*)?$")
_LONGEST = 12
"""Words of a value that can be recognised."""
_MOST_VALUES = 5_000
"""Of one field; a field with more names its documents one by one."""
_MOST_FIELDS = 4


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a question names."""

    groups: tuple[tuple[Condition, ...], ...]
    """One a field: conditions that hold together. Best known first."""
    told: str

    def filter(self, beside: Filter) -> Filter:
        """A filter of all of them and those of `beside`."""
        return Filter((*beside.conditions, *(c for group in self.groups for c in group)))

    def missed(self, info: DocumentInfo) -> int:
        """How many of the fields a document does not meet."""
        return sum(not all(condition.holds(info) for condition in group) for group in self.groups)


def recognised(question: str, readable: Collection[DocumentInfo], settings: SelfQuerySettings) -> Recognised:
    """Which values the question names.

    A text value is recognised where all of its words stand together in the question, in any case; a year in a field
    that holds years, or dates of that year; another number only right after its field's name (``version 3``). A value
    that every document has, or that stands within a longer one, says nothing.
    """
    asked = _words(question)
    runs = _runs(asked)
    years = set(_YEAR.findall(unicodedata.normalize("NFKC", question)))
    claimed: set[str] = set()
    named: list[tuple[int, str, tuple[Condition, ...], str]] = []
    fields = {
        field: values for field, values in _values(readable, settings.fields).items() if len(values) <= _MOST_VALUES
    }
    for field, values in fields.items():
        texts = {value for value in values if _names(_words(value)) and _words(value) in runs and not _is_number(value)}
        told = [value for value in texts if not _within_another(value, texts)]
        told += [value for value in values if _is_year(value) and value in years]
        told += [v for v in values if _is_number(v) and not _is_year(v) and (*_words(field), *_words(v)) in runs]
        meeting = {document for value in told for document in values[value]}
        if told and len(meeting) < len(readable):
            conditions: tuple[Condition, ...] = (Condition(field, "in", tuple(sorted(told))),)
            named.append((len(meeting), field, conditions, f"{field} = {', '.join(sorted(told))}"))
            claimed |= years & set(told)
    for field, values in fields.items():
        # A year that a field holds as such is that field's: dates of the same document often say another.
        dated = {value: m.group(1) for value in values if (m := _DATE.match(value)) and m.group(1) in years - claimed}
        meeting = {document for value in dated for document in values[value]}
        if dated and len(meeting) < len(readable) and all(one[1] != field for one in named):
            first, last = min(dated.values()), max(dated.values())
            conditions = (Condition(field, "gte", f"{first}-01-01"), Condition(field, "lt", f"{int(last) + 1}-01-01"))
            named.append(
                (len(meeting), field, conditions, f"{field} in {first if first == last else f'{first}-{last}'}")
            )
    named.sort(key=lambda one: one[:2])
    named = named[:_MOST_FIELDS]
    return Recognised(tuple(one[2] for one in named), "; ".join(one[3] for one in named))


def _values(readable: Collection[DocumentInfo], fields: Sequence[str]) -> Mapping[str, Mapping[str, set[str]]]:
    """Field to value to documents."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for info in readable:
        for field, value in info.metadata.items():
            if (not fields or field in fields) and 0 < len(value) <= 200:
                found[field][value].add(info.id)
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _names(words: tuple[str, ...]) -> bool:
    """Whether a value is long enough to be recognised: one character alone stands within too many words."""
    return bool(words) and not (len(words) == 1 and _CHARACTER.fullmatch(words[0]))


def _runs(words: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    """All runs of up to `_LONGEST` words, the last one also without its plural or genitive s."""
    return frozenset(_each_run(words))


def _each_run(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for start in range(len(words)):
        for end in range(start + 1, min(len(words), start + _LONGEST) + 1):
            yield words[start:end]
            last = words[end - 1]
            if len(last) > 3 and last.endswith("s"):
                yield (*words[start : end - 1], last[:-1])


def _within_another(value: str, told: Collection[str]) -> bool:
    own = _words(value)
    return any(len(own) < len(other := _words(each)) and own in _runs(other) for each in told)


def _is_number(value: str) -> bool:
    return value.strip().replace(".", "", 1).isdigit()


def _is_year(value: str) -> bool:
    return bool(_YEAR.fullmatch(value.strip()))
