"""Whether a question could mean several things that the found documents answer equally well.

Rules: the best sentences of two to five documents (or values of a metadata field that the app names) score alike,
cover the question alike and say different things, and the question names none of them. Only documents that the asker
may read were found, so only those can be named.
"""

from __future__ import annotations

from collections.abc import Sequence

from interlock.core.answers import Option
from interlock.knowledge.analysers import analyse
from interlock.knowledge.grounding.facts import tokens
from interlock.knowledge.grounding.types import Evidence, Selection

__all__ = ["asked_back", "options"]

_CLOSE = 0.5
"""Most that a reading's best sentence may score below the best of all."""
_COVERS = 0.15
"""The same for the share of the question's words."""
_MOST = 5
TITLE = "title"


def options(question: str, selection: Selection, facets: Sequence[str]) -> tuple[Option, ...]:
    """The readings of an underspecified question, best first; empty when it is clear enough. Pure.

    Args:
        facets: in the order in which they are tried: ``title``, or keys of the documents' metadata.
    """
    for facet in facets:
        best = _best_of_each(selection.candidates, facet)
        top = next(iter(best.values()), None)
        if top is None:
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


def _best_of_each(candidates: Sequence[Evidence], facet: str) -> dict[str, Evidence]:
    best: dict[str, Evidence] = {}
    for evidence in candidates:
        passage = evidence.passage
        value = passage.title if facet == TITLE else dict(passage.metadata).get(facet, "")
        if value.strip():
            best.setdefault(" ".join(value.split()), evidence)
    return best


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
