"""What is known of each candidate sentence, as numbers: the inputs of selection and of answerability."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from interlock.core.passages import Passage
from interlock.core.ports import Embedder
from interlock.knowledge.analysers import analyse
from interlock.knowledge.grounding.asks import asked_kind, holds
from interlock.knowledge.grounding.questions import asking_clauses, names_of, plain_terms
from interlock.knowledge.grounding.types import AskedTerm, Evidence
from interlock.knowledge.grounding.wordmatch import WordMatcher, surfaces
from interlock.knowledge.sentences import first_sentences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FEATURES", "Table", "asked_terms", "searchable", "table", "term_coverage", "term_weights"]

FEATURES = ("similarity", "own", "context", "near", "pairs", "names", "place", "dense", "kind", "row", "short")
"""Inputs of selection, each about [0, 1]:

- similarity: cosine of question and sentence under its headings
- own: weighted share of the question's terms in the sentence, column names included
- context: the same with headings and title
- near: the same counting words of like meaning in part
- pairs: share of the question's neighbouring terms that stand close together in the sentence
- names: share of the asking's names, codes and years in the sentence or its headings; 1 when there are none
- place: score of the passage relative to the best one
- dense: cosine of question and passage
- kind: it holds the kind of value asked for; 0.5 when no kind is asked
- row: 1 for a table row
- short: 1 for fewer than 5 words of a sentence
"""

_CONTEXT_TOKENS = 200
_FLOOR = 0.5
"""Least value of `place`: the weights were fitted on ranks, which lie this near to one another."""
_CLOSE = 3


@dataclass(frozen=True, slots=True)
class Table:
    """Features of every candidate for every question asked."""

    values: NDArray[np.float32]
    """``(questions, candidates, len(FEATURES))`` float32, about [0, 1]."""
    terms: tuple[frozenset[str], ...]
    """Terms of each candidate with its headings."""
    hits: NDArray[np.float32]
    """``(terms of question 0, candidates)`` float32: how far each asked term is met, in [0, 1]."""
    asked: tuple[str, ...]
    """The terms of question 0, in the order of `hits`."""
    weights: Mapping[str, float]
    """Rarity of each asked term among the candidates."""
    vectors: NDArray[np.float32]
    """``(candidates, dimensions)`` float32, L2-normalised: each sentence under its headings."""


def searchable(evidence: Evidence) -> str:
    """The sentence with all that stands above it."""
    return f"{evidence.heading}\n{evidence.readable}"


async def table(queries: Sequence[str], found: Sequence[Evidence], embedder: Embedder, words: WordMatcher) -> Table:
    """Compute all features. CPU heavy: embeds queries, candidates and new words."""
    import numpy as np

    # As a search takes it: a question may be a whole letter.
    asking = [first_sentences(query, embedder) for query in queries]
    vectors = await embedder.embed([*asking, *(_context(e, embedder) for e in found)], "passage")
    similar = vectors[: len(queries)] @ vectors[len(queries) :].T
    own = [[*analyse(e.readable), *plain_terms(e.readable)] for e in found]
    terms = tuple(frozenset(analyse(searchable(e))) | plain_terms(e.readable) for e in found)
    asked = [list(dict.fromkeys(analyse(query))) for query in queries]
    names = [names_of(" ".join(asking_clauses(query))) for query in queries]
    weights = term_weights([set(row) for row in asked], terms)
    shown = [surfaces(searchable(e)) for e in found]
    wanted = surfaces(" ".join(queries))
    await words.learn([*wanted.values(), *(word for row in shown for word in row.values())])
    best = max((e.passage.score for e in found), default=0.0) or 1.0
    values = np.zeros((len(queries), len(found), len(FEATURES)), dtype=np.float32)
    hits_first = np.zeros((len(asked[0]), len(found)), dtype=np.float32)
    for q, query in enumerate(queries):
        kind = asked_kind(query)
        mass = np.array([weights[t] for t in asked[q]], dtype=np.float32)
        total = float(mass.sum()) or 1.0
        for c, evidence in enumerate(found):
            hits = _hits(asked[q], terms[c], wanted, shown[c], words)
            if q == 0:
                hits_first[:, c] = hits
            values[q, c] = (
                max(0.0, float(similar[q, c])),
                term_coverage(set(asked[q]), frozenset(own[c]), weights),
                term_coverage(set(asked[q]), terms[c], weights),
                float(mass @ hits) / total,
                _pairs(asked[q], own[c]),
                len(names[q] & terms[c]) / len(names[q]) if names[q] else 1.0,
                _FLOOR + (1 - _FLOOR) * evidence.passage.score / best,
                evidence.passage.dense_score or 0.0,
                0.5 if kind == "other" else float(holds(kind, evidence.readable)),
                float(evidence.is_row),
                float(not evidence.is_row and len(evidence.readable.split()) < 5),
            )
    return Table(values, terms, hits_first, tuple(asked[0]), weights, vectors[len(queries) :])


def asked_terms(
    question: str, features: Table, found: Sequence[Evidence], columns: Sequence[int], passages: Sequence[Passage]
) -> tuple[AskedTerm, ...]:
    """Where each term of the question was met. `columns` are the numbers of the candidates that may meet it."""
    names = names_of(question)
    near = frozenset(t for e in (found[c] for c in columns) for t in analyse(f"{searchable(e)}\n{e.passage.text}"))
    seen = near | {t for p in passages for t in analyse(f"{p.title}\n{p.heading}\n{p.text}")}
    return tuple(
        AskedTerm(
            term,
            features.weights[term],
            term in names,
            float(max((features.hits[i, c] for c in columns), default=0.0)),
            term in near,
            term in seen,
        )
        for i, term in enumerate(features.asked)
    )


def _context(evidence: Evidence, embedder: Embedder) -> str:
    """What is embedded: the innermost headings and the sentence, cut to what the embedder reads."""
    lead = " › ".join(evidence.heading.split(" › ")[-2:])
    text = f"{lead}: {evidence.readable}" if lead else evidence.readable
    limit = min(_CONTEXT_TOKENS, embedder.max_tokens)
    while embedder.count_tokens(text) > limit:
        text = text[: int(len(text) * 0.8)]
    return text


def term_weights(asked: Sequence[set[str]], terms: Sequence[frozenset[str]]) -> dict[str, float]:
    """Rarity of each asked term among the candidates; a term in none of them weighs most."""
    counts = Counter(term for row in terms for term in row)
    return {term: math.log(1 + (len(terms) + 1) / (counts[term] + 0.5)) for row in asked for term in row}


def term_coverage(asked: set[str], terms: frozenset[str], weights: Mapping[str, float]) -> float:
    """Weighted share of the asked terms that stand in `terms`, in [0, 1]."""
    total = sum(weights[term] for term in asked)
    return sum(weights[term] for term in asked & terms) / total if total else 0.0


def _hits(
    asked: Sequence[str], terms: frozenset[str], wanted: Mapping[str, str], shown: Mapping[str, str], words: WordMatcher
) -> NDArray[np.float32]:
    import numpy as np

    hits = np.array([float(term in terms) for term in asked], dtype=np.float32)
    soft = [i for i, term in enumerate(asked) if not hits[i] and term in wanted]
    if soft and shown:
        near = words.nearness([wanted[asked[i]] for i in soft], list(shown.values()))
        hits[soft] = near.max(axis=1)
    return hits


def _pairs(asked: Sequence[str], own: Sequence[str]) -> float:
    """Neighbours of the question that are near neighbours here."""
    pairs = list(pairwise(asked))
    if not pairs:
        return 0.0
    places: dict[str, list[int]] = {}
    for position, term in enumerate(own):
        places.setdefault(term, []).append(position)
    close = sum(any(abs(a - b) <= _CLOSE for a in places.get(x, ()) for b in places.get(y, ())) for x, y in pairs)
    return close / len(pairs)
