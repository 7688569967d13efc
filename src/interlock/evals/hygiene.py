"""Faults of a test set itself: cases that say the same, and cases that somebody has seen before.

Texts are compared by their runs of three words (all words where there are fewer), so that other punctuation, case and
spacing hide nothing. Two cases are near duplicates when their sets of runs are alike (Jaccard); a case leaks when most
of its runs stand in a prompt, a few-shot example or tuning data (containment: Broder, Compression and Complexity of
Sequences 1997).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interlock.core.errors import InvalidInput, NotFound
from interlock.evals.types import Case

__all__ = ["Duplicate", "Leak", "leaks", "near_duplicates", "texts_of"]

_RUN = 3
_ALIKE = 0.7
_CONTAINED = 0.8
_LEAST_RUNS = 5
"""A case of fewer runs ("Why?") stands in any text and tells nothing."""
_COMMON = 1000
"""Runs that more cases than this share are boilerplate: they find no pairs."""
_WORD = re.compile(r"\w+")
_MOST_TEXT = 256 << 20


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two cases that ask the same."""

    first: str
    second: str
    alike: float
    """Jaccard of their runs of words, 1 for the same words."""
    same_answer: bool
    """Whether they expect the same too; where they do not, one of them is wrong."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A case whose words stand somewhere that the tested app was made from."""

    case: str
    part: str
    """``input`` or ``expected``."""
    where: str
    contained: float
    """Share of its runs of words that stand there."""


def _runs(text: str) -> frozenset[int]:
    words = [word.casefold() for word in _WORD.findall(text)]
    if len(words) < _RUN:
        return frozenset({hash(tuple(words))}) if words else frozenset()
    return frozenset(hash(tuple(words[at : at + _RUN])) for at in range(len(words) - _RUN + 1))


def near_duplicates(cases: Sequence[Case], *, alike: float = _ALIKE) -> list[Duplicate]:
    """Pairs of cases that ask nearly the same, most alike first."""
    runs = [_runs(case.question) for case in cases]
    holders: defaultdict[int, list[int]] = defaultdict(list)
    for at, each in enumerate(runs):
        for run in each:
            holders[run].append(at)
    shared: Counter[tuple[int, int]] = Counter()
    for members in holders.values():
        if 1 < len(members) <= _COMMON:
            shared.update((a, b) for place, a in enumerate(members) for b in members[place + 1 :])
    found = []
    for (a, b), common in shared.items():
        score = common / (len(runs[a]) + len(runs[b]) - common)
        if score >= alike:
            same = cases[a].expected == cases[b].expected and cases[a].answerable == cases[b].answerable
            found.append(Duplicate(cases[a].id, cases[b].id, round(score, 3), same))
    return sorted(found, key=lambda each: -each.alike)


def leaks(cases: Iterable[Case], texts: Mapping[str, str], *, contained: float = _CONTAINED) -> list[Leak]:
    """Cases whose question or reference stands in one of `texts`, most of it first.

    Args:
        texts: by name, what the app was made from: prompts, few-shot examples, tuning data.
    """
    known = {name: _runs(text) for name, text in texts.items()}
    found = []
    for case in cases:
        for part, text in (("input", case.question), *(("expected", each) for each in case.references)):
            runs = _runs(text)
            if len(runs) < _LEAST_RUNS:
                continue
            for name, there in known.items():
                share = len(runs & there) / len(runs)
                if share >= contained:
                    found.append(Leak(case.id, part, name, round(share, 3)))
    return sorted(found, key=lambda each: -each.contained)


def texts_of(paths: Iterable[Path]) -> dict[str, str]:
    """Texts of files, and of all files below folders, by path. Raises: NotFound, InvalidInput: too much, no text."""
    found: dict[str, str] = {}
    size = 0
    for path in paths:
        if not path.exists():
            raise NotFound(f"there is no {path.name!r}", param="against")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_file():
                continue
            size += file.stat().st_size
            if size > _MOST_TEXT:
                raise InvalidInput(
                    f"more than {_MOST_TEXT >> 20} MiB of text", param="against", hint="name fewer files"
                )
            found[str(file)] = file.read_text("utf-8", errors="replace")
    return found
