"""Whether a question could mean several things that the found documents answer equally well.

Rules: the best sentences of two to five documents (or values of a metadata field that the app names) score alike,
cover the question alike and say different things, and the question names none of them. Only documents that the asker
may read were found, so only those can be named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from interlock.core.answers import Option
from interlock.knowledge.analysers import analyse
from interlock.knowledge.filters import Condition, Filter
from interlock.knowledge.grounding.facts import tokens
from interlock.knowledge.grounding.types import Evidence, Selection
from interlock.knowledge.retrieval.types import Turn

__all__ = ["Replied", "asked_back", "meant", "options", "replied"]

_CLOSE = 0.5
"""Most that a reading's best sentence may score below the best of all."""
_COVERS = 0.15
"""The same for the share of the question's words."""
_MOST = 5
TITLE = "title"
_ASKED_BACK = re.compile(r"Which (?P<about>.+?) do you mean: (?P<values>.+)\?")
_MOST_CHARACTERS = 2_000
"""Of a turn that may be a question back: titles are long, but not longer."""


@dataclass(frozen=True, slots=True)
class Replied:
    """What a person said to a question back."""

    question: str
    """What was asked before it."""
    option: Option | None
    """The reading they named; None when they named none, or several."""


def options(question: str, selection: Selection, facets: Sequence[str]) -> tuple[Option, ...]:
    """The readings of an underspecified question, best first; empty when it is clear enough. Pure.

    Args:
        facets: in the order in which they are tried: ``title``, or keys of the documents' metadata.
    """
    for facet in facets:
        best = _best_of_each(selection.candidates, facet)
        # What answers best decides: readings of a fact that it has not got are readings of another question.
        top = next(iter(selection.candidates), None)
        if top is None or not _value(top, facet):
            continue
        close = {value: e for value, e in best.items() if _as_good(e, top)}
        if 2 <= len(close) <= _MOST and not _named(question, list(close)) and _differ(list(close.values())):
            return tuple(Option(facet, value) for value in close)
    return ()


def asked_back(found: Sequence[Option]) -> str:
    """The question back: ``Which one do you mean: A, B or C?``"""
    *first, last = [option.value for option in found]
    about = "" if found[0].facet == TITLE else f" {found[0].facet.replace('_', ' ')}"
    return f"Which{about or ' one'} do you mean: {', '.join(first)} or {last}?"


def replied(question: str, earlier: Sequence[Turn], facets: Sequence[str]) -> Replied | None:
    """What `question` means as the reply to a question back; None when nothing was asked back just before. Pure.

    Args:
        earlier: oldest first.
        facets: those by which the app asks back.
    """
    if len(earlier) < 2 or earlier[-1].role != "assistant" or earlier[-2].role != "user":
        return None
    said = " ".join(earlier[-1].text[:_MOST_CHARACTERS].split())
    found = _ASKED_BACK.fullmatch(said)
    names = {"one" if facet == TITLE else facet.replace("_", " "): facet for facet in facets}
    if found is None or found["about"] not in names:
        return None
    offered = _pieces(found["values"])
    before = " ".join(earlier[-2].text.split())
    named = _one_named(question, offered)
    option = None if named is None else Option(names[found["about"]], named)
    return Replied(before, option)


def meant(option: Option) -> tuple[Filter, ...]:
    """The documents of a reading; where there is none, those whose value has it: a comma in it cut it short."""
    field = "document.title" if option.facet == TITLE else option.facet
    return tuple(Filter((Condition(field, operator, option.value),)) for operator in ("eq", "contains"))


def _pieces(values: str) -> list[str]:
    """What was offered, read back from its sentence."""
    first, found, last = values.rpartition(" or ")
    return [*first.split(", "), last] if found else [last]


def _one_named(reply: str, offered: Sequence[str]) -> str | None:
    whole = [value for value in offered if value.casefold() in " ".join(reply.split()).casefold()]
    if len(whole) == 1:
        return whole[0]
    terms = [set(analyse(value)) for value in offered]
    shared = set.intersection(*terms) if terms else set()
    asked = set(analyse(reply))
    told = [value for value, own in zip(offered, terms, strict=True) if asked & (own - shared)]
    return told[0] if len(told) == 1 else None


def _best_of_each(candidates: Sequence[Evidence], facet: str) -> dict[str, Evidence]:
    best: dict[str, Evidence] = {}
    for evidence in candidates:
        value = _value(evidence, facet)
        if value:
            best.setdefault(value, evidence)
    return best


def _value(evidence: Evidence, facet: str) -> str:
    passage = evidence.passage
    return " ".join((passage.title if facet == TITLE else dict(passage.metadata).get(facet, "")).split())


def _as_good(evidence: Evidence, top: Evidence) -> bool:
    return top.score - evidence.score <= _CLOSE and abs(top.coverage - evidence.coverage) <= _COVERS


def _named(question: str, values: Sequence[str]) -> bool:
    """The question has a word that tells one reading from the others."""
    terms = [set(analyse(value)) for value in values]
    shared = set.intersection(*terms)
    asked = set(analyse(question))
    return any(asked & (own - shared) for own in terms)


def _differ(found: Sequence[Evidence]) -> bool:
    """They do not all say the same: then any of them answers."""
    said = {frozenset((t.kind, t.key) for t in tokens(e.readable) if t.kind != "function") for e in found}
    return len(said) > 1
