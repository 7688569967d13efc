"""The graph of some documents: which sentences name what, and what follows from them.

Edges are not stored: they are read off the sentences that name an entity, so that nothing is in the graph that is not
in one of its documents.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from interlock.core.passages import Span
from interlock.knowledge.graph.aliases import key_of, resolved
from interlock.knowledge.graph.modelled import Said
from interlock.knowledge.graph.types import ABOUT, TOGETHER, Edge, Entity, Extracted, GraphView, Place, Sentence
from interlock.knowledge.types import DocumentInfo

__all__ = ["Graph", "Related"]

_PLACES = 10
_READ_OF_ENTITY = 2_000
"""Sentences of one entity that its edges are read from."""
_LONGEST_KEY = 8
_KINDS: Mapping[str, float] = {TOGETHER: 0.4, ABOUT: 0.3}
"""What a sentence counts beside one that states a relation."""
_HUB_SHARE = 0.1
_HUB_LEAST = 20
"""What a tenth of all documents name, and at least so many, leads nowhere."""


class Related(NamedTuple):
    """Something that edges lead to."""

    key: str
    name: str
    strength: float
    """In (0, 1], 1 for the strongest."""
    via: str
    """Name of what leads there."""
    kind: str


@dataclass(slots=True)
class _Kept:
    count: int = 0
    places: list[Place] = field(default_factory=list)


class Graph:
    """What some documents say of whom.

    Args:
        documents: with what was extracted of each.
    """

    def __init__(self, documents: Sequence[tuple[DocumentInfo, Extracted]]) -> None:
        # By source: what is shown must not depend on the order of reading.
        self._documents = sorted(documents, key=lambda pair: (pair[0].source, pair[0].id))
        self._alias = resolved(extracted.aliases for _, extracted in self._documents)
        self._said: dict[str, list[tuple[str, str, float]]] = {}
        self._called: dict[str, str] = {}
        self._named: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._hubs: set[str] = set()
        for number, (_, extracted) in enumerate(self._documents):
            for place, sentence in enumerate(extracted.sentences):
                for key in {self._known(mention.key) for mention in sentence.mentions}:
                    self._named[key].append((number, place))
        most = max(_HUB_LEAST, _HUB_SHARE * len(self._documents))
        for key, places in self._named.items():
            if len(places) > most and len({number for number, _ in places}) > most:
                self._hubs.add(key)

    def __len__(self) -> int:
        """Entities."""
        return len(self._named)

    def _known(self, key: str) -> str:
        return self._alias.get(key, key)

    def with_said(self, said: Sequence[Said]) -> Graph:
        """A copy with relations that a model read, for one search."""
        given = copy(self)
        given._said, given._called = {}, {}
        for one in said:
            source, target = self._known(key_of(one.source)), self._known(key_of(one.target))
            for key, other, name in ((source, target, one.source), (target, source, one.target)):
                given._said.setdefault(key, []).append((other, one.kind, one.worth))
                given._called.setdefault(key, name)
        return given

    def knows(self, key: str) -> bool:
        """Whether a document names it, by the rules."""
        return key in self._named

    def key(self, name: str) -> str | None:
        """The entity that is called so, None when no document names it."""
        key = self._known(key_of(name))
        return key if key in self._named or key in self._said else None

    def named_in(self, question: str) -> list[str]:
        """Entities that a question names, the longest names first taken, in its order."""
        words = question.replace("?", " ").replace(",", " ").replace("`", " ").split()
        taken: dict[int, str] = {}
        used: set[int] = set()
        for length in range(min(_LONGEST_KEY, len(words)), 0, -1):
            for start in range(len(words) - length + 1):
                places = range(start, start + length)
                if used.intersection(places):
                    continue
                key = self.key(" ".join(words[start : start + length]).strip(" .;:!\"'()[]“”"))
                if key is not None and key not in taken.values():
                    taken[start] = key
                    used.update(places)
        return [taken[start] for start in sorted(taken)]

    def documents_of(self, key: str) -> dict[str, list[Span]]:
        """Ids of documents that name an entity, with the sentences that do."""
        found: dict[str, list[Span]] = defaultdict(list)
        for number, place in self._named.get(key, ()):
            info, extracted = self._documents[number]
            sentence = extracted.sentences[place]
            found[info.id].append(Span(sentence.start, sentence.end))
        return found

    def related(
        self, seeds: Sequence[str], *, hops: int, most: int, worth: Callable[[str, Span], float]
    ) -> list[Related]:
        """Where edges lead from some entities.

        Args:
            seeds: keys.
            hops: 1 or 2.
            most: how many to give, and to go on from.
            worth: of a sentence of a document, for the question: more is better, never below 0.

        Returns: strongest first, without the seeds; ties by key.
        """
        scores: dict[str, float] = {}
        told: dict[str, tuple[float, str, str]] = {}
        frontier = [(seed, 1.0) for seed in seeds]
        for _ in range(hops):
            reached: dict[str, float] = defaultdict(float)
            for key, carried in frontier:
                for other, kind, strength in self._steps(key, worth):
                    if other in seeds:
                        continue
                    reached[other] += carried * strength
                    if strength > told.get(other, (0.0, "", ""))[0]:
                        told[other] = (strength, key, kind)
            top = max(reached.values(), default=0.0)
            share = 1.0 if not scores else 0.5
            for key, score in reached.items():
                if top > 0.0:
                    scores[key] = max(scores.get(key, 0.0), share * score / top)
            frontier = sorted(((k, s) for k, s in scores.items()), key=lambda pair: (-pair[1], pair[0]))[:most]
        best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
        return [
            Related(key, self.name(key), score, self.name(told[key][1]), told[key][2]) for key, score in best if score
        ]

    def _steps(self, key: str, worth: Callable[[str, Span], float]) -> Iterator[tuple[str, str, float]]:
        for other, kind, value in self._said.get(key, ()):
            yield other, kind, max(value, 0.0)
        places = self._named.get(key, ())
        if key in self._hubs:
            return
        for number, place in places[:_READ_OF_ENTITY]:
            info, extracted = self._documents[number]
            sentence = extracted.sentences[place]
            value = worth(info.id, Span(sentence.start, sentence.end))
            for source, kind, target in self._edges_of(sentence, key):
                other = target if source == key else source
                if other != key and other not in self._hubs:
                    yield other, kind, value * _KINDS.get(kind, 1.0) * self._rarity(other)

    def _edges_of(self, sentence: Sentence, key: str) -> Iterator[tuple[str, str, str]]:
        """Edges of one entity in one sentence: what it states, and for the others that they stand together."""
        stated: set[str] = set()
        for relation in sentence.stated:
            source, target = self._known(relation.source), self._known(relation.target)
            if key in (source, target) and source != target:
                stated |= {source, target}
                yield source, relation.kind, target
        others = {self._known(mention.key) for mention in sentence.mentions}
        for other in sorted(others - stated - {key}):
            yield min(key, other), TOGETHER, max(key, other)
        above = self._known(sentence.heading)
        if above and key in others and above not in others:
            yield above, ABOUT, key

    def _rarity(self, key: str) -> float:
        return 1.0 / math.log2(2.0 + len(self._named.get(key, ())))

    # ── for people ────────────────────────────────────────────────────────────────────────────────────────────────

    def name(self, key: str) -> str:
        """As it is written most often; its longest way of the frequent ones."""
        names = self._names(key)
        full = {name: count for name, count in names.items() if key_of(name) == key}
        return min(full or names, key=lambda name: (-names[name], name), default=self._called.get(key, key))

    def _names(self, key: str) -> Counter[str]:
        names: Counter[str] = Counter()
        for number, place in self._named.get(key, ())[:_READ_OF_ENTITY]:
            for mention in self._documents[number][1].sentences[place].mentions:
                if self._known(mention.key) == key:
                    names[" ".join(mention.name.split())] += 1
        return names

    def _place(self, number: int, start: int, end: int) -> Place:
        info, _ = self._documents[number]
        return Place(info.id, info.source, info.text_digest, Span(start, end))

    def entity(self, key: str) -> Entity:
        """An entity with the first places that name it."""
        places: list[Place] = []
        mentions, documents = 0, set()
        for number, place in self._named.get(key, ()):
            for mention in self._documents[number][1].sentences[place].mentions:
                if self._known(mention.key) == key:
                    mentions += 1
                    documents.add(number)
                    if len(places) < _PLACES:
                        places.append(self._place(number, mention.start, mention.end))
        name = self.name(key)
        others = tuple(sorted(other for other in self._names(key) if other != name))
        return Entity(key, name, others, mentions, len(documents), places)

    def edges(self, key: str) -> list[Edge]:
        """What is said of an entity and others: stated relations first, then by count."""
        found: dict[tuple[str, str, str], _Kept] = defaultdict(_Kept)
        for number, place in self._named.get(key, ())[:_READ_OF_ENTITY]:
            sentence = self._documents[number][1].sentences[place]
            for edge in self._edges_of(sentence, key):
                kept = found[edge]
                kept.count += 1
                if len(kept.places) < _PLACES:
                    kept.places.append(self._place(number, sentence.start, sentence.end))
        edges = [Edge(source, kind, target, kept.count, kept.places) for (source, kind, target), kept in found.items()]
        return sorted(edges, key=lambda e: (e.kind in _KINDS, -e.count, e.source, e.kind, e.target))

    def view(self, collection: str, key: str | None, *, most: int) -> GraphView:
        """An entity with its edges and neighbours, or what most is said of, with what is stated among it."""
        if key is not None:
            edges = self.edges(key)[:most]
            near = dict.fromkeys(end for edge in edges for end in (edge.source, edge.target) if end != key)
            return GraphView(collection, [self.entity(one) for one in (key, *near)], edges, len(self))
        best = sorted(self._named, key=lambda one: (-len(self._named[one]), one))[:most]
        shown = set(best)
        kept: dict[tuple[str, str, str], Edge] = {}
        for one in best:
            for edge in self.edges(one):
                if edge.kind not in _KINDS and {edge.source, edge.target} <= shown:
                    kept[edge.source, edge.kind, edge.target] = edge
        return GraphView(collection, [self.entity(one) for one in best], list(kept.values()), len(self))
