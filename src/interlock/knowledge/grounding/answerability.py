"""Whether the found passages hold the answer: a logistic model over a few general features, and the reader's word.

The reader's logit is added to the model's: both are log odds that were fitted on different questions.

Features, each about [0, 1]:

- ``meaning``: cosine of question and evidence, the mean over the things asked;
- ``at_hand``: weighted share of the question's subject words that the evidence, its headings or its passage hold, in
  the word itself or one of like meaning;
- ``unseen``: weighted share that no found passage holds, not even in a word of like meaning;
- ``name_gone``: 1 when a name of the asking is neither in the evidence nor in its headings;
- ``code_gone``: the same for a code, version, year or number;
- ``clash``: 1 when the evidence speaks of another model, version or year of the same form;
- ``kind``: 1 when the evidence holds the kind of value asked for;
- ``passage``: the best cosine of question and passage;
- ``gap``: how far the best sentence leads the next ones;
- ``covered``: the weighted share of the question's words that stand in the evidence as they are;
- ``read``: with a reader only, its logit for the evidence in [-5, 5], the mean over the things asked.

Without a reader another fit counts (`ALONE`), which has no reader beside it to make room for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from interlock.knowledge.grounding.asks import asked_kind, holds
from interlock.knowledge.grounding.questions import (
    asking_clauses,
    asking_words,
    clashes,
    kind_words,
    question_parts,
    terms_of,
)
from interlock.knowledge.grounding.types import AskedTerm, Assessment, Evidence, Selection

__all__ = ["ALONE", "assess", "features"]

# Printed by: python -m benchmarks.fit_answerability
_INTERCEPT = -4.60
_WEIGHTS: dict[str, float] = {
    "meaning": 1.69,
    "at_hand": 1.26,
    "unseen": 0.16,
    "name_gone": -0.67,
    "code_gone": -0.42,
    "clash": -1.76,
    "kind": 0.79,
    "passage": 2.42,
    "gap": 0.53,
}
# Printed by: python -m benchmarks.fit_declining
_ALONE_INTERCEPT = -4.94
ALONE: dict[str, float] = {
    "meaning": 2.67,
    "at_hand": 1.49,
    "unseen": 0.39,
    "name_gone": -0.79,
    "code_gone": -0.68,
    "clash": -1.95,
    "kind": 0.55,
    "passage": 3.04,
    "gap": 0.62,
    "covered": -0.9,
}
"""Weights where no reader reads."""
_COVERED = -1.0
"""With a reader: it has seen the words that are the same, and `at_hand` counts them too."""
_READ_OFFSET = 1.21
"""With a reader: puts the default of `min_answerability` where five organisations that it was not trained on are
answered and declined equally often."""
_ASIDE = 0.5
"""Weight of words in the story around the asking."""


def features(question: str, selection: Selection) -> dict[str, float]:
    """The model's inputs by name. Needs evidence."""
    several = len(question_parts(question)) > 1
    evidence = selection.evidence if several else selection.evidence[:1]
    clause = frozenset(terms_of(" ".join(asking_clauses(question))))
    told = "\n".join(f"{e.heading} {e.readable}" for e in evidence)
    kind = asked_kind(question)
    held = holds(kind, told)
    spared = asking_words() | (kind_words(kind) if held else frozenset())
    subject = [t for t in selection.asked if t.term not in spared] or list(selection.asked)
    weigh = [t.weight if t.term in clause else _ASIDE * t.weight for t in subject]
    values = {
        "meaning": sum(e.similarity for e in evidence) / len(evidence),
        "at_hand": _share(weigh, [float(t.near or t.met > 0.5) for t in subject]),
        "unseen": _share(weigh, [float(not t.seen and t.met < 0.35) for t in subject]),
        "name_gone": float(any(_gone(t, clause) and t.term.isalpha() for t in subject)),
        "code_gone": float(any(_gone(t, clause) and not t.term.isalpha() for t in subject)),
        "clash": float(clashes(question, told)),
        "kind": float(held),
        "passage": max((e.passage.dense_score or 0.0 for e in selection.candidates), default=0.0),
        "gap": _gap(selection.candidates),
        "covered": _share([t.weight for t in selection.asked], [float(t.met > 0.999) for t in selection.asked]),
    }
    read = [e.read for e in evidence if e.read is not None]
    if read:
        values["read"] = sum(read) / len(read)
    return values


def _gone(term: AskedTerm, clause: frozenset[str]) -> bool:
    return term.is_name and term.met < 0.999 and term.term in clause


def _share(weights: Sequence[float], values: Sequence[float]) -> float:
    total = sum(weights)
    return sum(w * v for w, v in zip(weights, values, strict=True)) / total if total else 0.0


def _gap(candidates: Sequence[Evidence]) -> float:
    if len(candidates) < 2:
        return 0.0
    rest = candidates[1:]
    return candidates[0].score - sum(e.score for e in rest) / len(rest)


def assess(question: str, selection: Selection) -> Assessment:
    """Probability that the selected evidence answers `question`. Pure, about 0.1 ms."""
    if not selection.evidence:
        return Assessment(0.0, ())
    values = features(question, selection)
    if "read" not in values:
        logit = _ALONE_INTERCEPT + sum(weight * values[name] for name, weight in ALONE.items())
    else:
        logit = _INTERCEPT + sum(weight * values[name] for name, weight in _WEIGHTS.items())
        # A reader hardly tells 7.6 from 7.7: where codes differ it may only doubt.
        read = min(0.0, values["read"]) if values["clash"] else values["read"]
        logit += read + _COVERED * values["covered"] + _READ_OFFSET
    return Assessment(1.0 / (1.0 + math.exp(-logit)), tuple(values.items()))
