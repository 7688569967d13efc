"""Whether a leg of a search is of use in a collection: sentences of its own documents must find them again.

A leg that knows nothing of a language still ranks something first, and min-max scaling makes that its best. So the end
of an ingest that changed enough searches a bounded sample of sentences by each leg alone, language by language. It is
the easiest question there is: one leg that fails it where the other does not is near random, and is left out of
searches in that language. Only counts are kept, no text.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import anyio
from anyio import to_thread

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.core.ids import DocumentId
from interlock.knowledge.analysers import analyse
from interlock.knowledge.payload import PassagePayload
from interlock.knowledge.sentences import sentences
from interlock.knowledge.settings import LegSettings
from interlock.knowledge.spaces.types import OpenSpace
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import DocumentInfo
from interlock.stats.intervals import Interval, wilson
from interlock.stores.index.base import Hit, Index

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LEGS", "LEG_WORDS", "LegHealth", "LegJudge", "LegName", "LegOff", "Tried", "legs_off"]

_log = logging.getLogger("interlock.knowledge")

LegName = Literal["dense", "lexical"]
LEGS: tuple[LegName, LegName] = ("dense", "lexical")
LEG_WORDS: Mapping[LegName, str] = {"dense": "meaning", "lexical": "words"}
"""What people call them."""

_VERSION = 1
_SAMPLE = 100
"""Sentences of one judgement, all languages together."""
_FEWEST = 20
"""Sentences of a language; of fewer nothing can be said."""
_CUT = 10
_BY_CHANCE = 0.05
"""Most of a collection's documents among which a sentence's own one counts as found."""
_OF_THE_OTHER = 0.5
"""A leg that finds less than this share of what the other one finds, chance taken away, is near random."""
_CHANGED = 0.1
"""Of the documents: fewer changed ones do not make a collection judged anew."""
_WITHIN_S = 20.0
_LONGEST = 300
_SHORTEST = 8
_ROWS = 50
_AT_ONCE = 20
_SEED = 7


class Tried(NamedTuple):
    """What the sentences of one language found."""

    tried: int
    cut: int
    """Among how many documents the sentence's own one counted as found."""
    chance: float
    """How often it would by chance."""
    dense: int
    lexical: int

    def interval(self, leg: LegName) -> Interval:
        """Share that a leg found, 95 %."""
        return wilson(getattr(self, leg), self.tried)

    def is_near_random(self, leg: LegName) -> bool:
        """The best that can be thought of this leg is less than half of the least that can be thought of the other."""
        other: LegName = "lexical" if leg == "dense" else "dense"
        mine = _beyond(self.interval(leg).high, self.chance)
        return mine < _OF_THE_OTHER * _beyond(self.interval(other).low, self.chance)

    def told(self, leg: LegName) -> str:
        """The figures behind a verdict, for those who may see facts of all documents."""
        low, high = self.interval(leg)
        other: LegName = "lexical" if leg == "dense" else "dense"
        return (
            f"{getattr(self, leg)} of {self.tried} sentences found their own document among the first {self.cut} "
            f"({low:.2f} to {high:.2f}, by chance {self.chance:.2f}), by {LEG_WORDS[other]} {getattr(self, other)}"
        )


@dataclass(frozen=True, slots=True)
class LegHealth:
    """What is kept of a judgement."""

    space: str
    """The embedding space that was judged."""
    looked_at: int
    """The collection's revision at which it was last asked whether to judge again."""
    documents: int
    """With passages, when it was judged."""
    judged_at: str
    """ISO 8601."""
    languages: Mapping[str, Tried] = field(default_factory=dict)
    """Those with sentences enough."""

    # Any: JSON.
    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return {
            "version": _VERSION,
            "space": self.space,
            "looked_at": self.looked_at,
            "documents": self.documents,
            "judged_at": self.judged_at,
            "languages": {code: tried._asdict() for code, tried in self.languages.items()},
        }

    # Any: JSON.
    @classmethod
    def of(cls, stored: Mapping[str, Any] | None, space: str) -> LegHealth | None:
        """What was stored, None when nothing was, or of another space or a later version of this."""
        if stored is None or stored["version"] != _VERSION or stored["space"] != space:
            return None
        names = Tried._fields
        languages = {code: Tried(*(tried[name] for name in names)) for code, tried in stored["languages"].items()}
        return cls(space, stored["looked_at"], stored["documents"], stored["judged_at"], languages)


@dataclass(frozen=True, slots=True)
class LegOff:
    """A leg that a search leaves out, and why."""

    leg: LegName
    why: Literal["near_random", "settings"]
    languages: tuple[str, ...] = ()
    """Of the question, in which the leg is near random."""
    figures: tuple[str, ...] = ()
    """By language; of all documents, so for those who may see facts of all."""

    def told(self, *, figures: bool) -> str:
        """For people."""
        if self.why == "settings":
            return f"knowledge.legs.{self.leg} switches it off"
        said = f"near random in {', '.join(self.languages)}: sentences of the documents do not find them again"
        return said + (f" ({'; '.join(self.figures)})" if figures and self.figures else "")


def legs_off(settings: LegSettings, health: LegHealth | None, languages: Sequence[str]) -> tuple[LegOff, ...]:
    """The legs that a search by both leaves out: never both.

    Args:
        settings: of the collection.
        health: None when nothing was judged.
        languages: of the question; a leg that is of use in one of them stays.
    """
    found: list[LegOff] = []
    for leg in LEGS:
        chosen = getattr(settings, leg)
        if chosen == "off":
            found.append(LegOff(leg, "settings"))
        elif chosen == "auto" and settings.check and health is not None and languages:
            tried = [health.languages.get(code) for code in languages]
            known = [one for one in tried if one is not None and one.is_near_random(leg)]
            if len(known) == len(tried):
                found.append(LegOff(leg, "near_random", tuple(languages), tuple(one.told(leg) for one in known)))
    by_settings = [one for one in found if one.why == "settings"]
    # What a person chose is kept; of two languages each may have lost another leg, and then both stay.
    return tuple(found) if len(found) < len(LEGS) else tuple(by_settings)


_Hits: TypeAlias = "dict[str, list[tuple[bool, bool]]]"
"""By language: whether the dense and the lexical leg found a sentence's document."""


class _Probe(NamedTuple):
    document: DocumentId
    language: str
    sentence: str
    terms: tuple[str, ...]


class LegJudge:
    """Judges the legs of collections.

    Args:
        documents: the registry, where verdicts are kept.
        index: passages.
    """

    def __init__(self, documents: DocumentStore, index: Index) -> None:
        self._documents = documents
        self._index = index

    async def judge(self, ctx: Context, collection: str, space: OpenSpace) -> LegHealth | None:
        """Judge anew where the collection changed enough since it was last judged. For the end of a run.

        An unchanged collection costs one row. Else it embeds at most 100 sentences and searches them by both legs, for
        20 seconds at most; where that fails, or nothing can be said, no leg is left out.
        """
        state = await self._documents.collection(ctx.tenant, collection)
        if state is None:
            return None
        before = LegHealth.of(state.legs, space.id)
        if before is not None and before.looked_at == state.revision:
            return before
        infos = [info for info in await self._documents.facts(ctx.tenant, collection) if info.passages]
        if before is not None and not _is_changed(before, infos):
            await self._keep(ctx, collection, before, state.revision)
            return before
        hits: _Hits = defaultdict(list)
        cut = max(1, min(_CUT, int(_BY_CHANCE * len(infos))))
        with ctx.span("knowledge.judge_legs", collection=collection) as (span, inner):
            try:
                # What was searched by then is judged: it is the first of a sample in no order.
                with anyio.move_on_after(_WITHIN_S):
                    await self._try(inner, space, infos, cut, hits)
            except InterlockError as error:
                # Nothing is kept, so that the next run tries again.
                _log.info("the legs of %s could not be judged: %s", collection, error.code)
                return before
            tried = {
                code: Tried(len(found), cut, cut / len(infos), sum(d for d, _ in found), sum(w for _, w in found))
                for code, found in hits.items()
                if len(found) >= _FEWEST
            }
            off = [leg for leg in LEGS if any(one.is_near_random(leg) for one in tried.values())]
            span.set(sentences=sum(one.tried for one in tried.values()), near_random=",".join(off))
        found = LegHealth(space.id, state.revision, len(infos), now().isoformat(), tried)
        await self._documents.keep_legs(ctx.tenant, collection, found.to_json())
        return found

    async def _keep(self, ctx: Context, collection: str, health: LegHealth, revision: int) -> None:
        looked = LegHealth(health.space, revision, health.documents, health.judged_at, health.languages)
        await self._documents.keep_legs(ctx.tenant, collection, looked.to_json())

    async def _try(self, ctx: Context, space: OpenSpace, infos: Sequence[DocumentInfo], cut: int, hits: _Hits) -> None:
        """Search sentences, and note by language which leg found their documents."""
        # Every reader: it is the collection that is judged, and counts are all that is kept.
        readers = frozenset(reader for info in infos for reader in info.readers)
        chosen = _chosen(infos)

        async def look(probe: _Probe, vector: NDArray[np.float32]) -> None:
            dense = await self._index.dense(space.scope, vector, readers=readers, k=_ROWS)
            lexical = await self._index.lexical(space.scope, probe.terms, readers=readers, k=_ROWS)
            hits[probe.language].append((_is_found(probe, dense, cut), _is_found(probe, lexical, cut)))

        for start in range(0, len(chosen), _AT_ONCE):
            some = [await self._probe(space, info, readers) for info in chosen[start : start + _AT_ONCE]]
            probes = [probe for probe in some if probe is not None]
            if not probes:
                continue
            vectors = await space.embedder.embed([probe.sentence for probe in probes], "query")
            try:
                async with anyio.create_task_group() as group:
                    for probe, vector in zip(probes, vectors, strict=True):
                        group.start_soon(look, probe, vector)
            except BaseExceptionGroup as failures:
                # One search's error is the judgement's; the group is only how it travelled.
                raise failures.exceptions[0] from failures

    async def _probe(self, space: OpenSpace, info: DocumentInfo, readers: frozenset[str]) -> _Probe | None:
        """The longest sentence of one of its passages. None where there is none to speak of."""
        rows = await self._index.document_passages(space.scope, info.id, readers=readers)
        if not rows:
            return None
        row = random.Random(f"{_SEED} {info.id}").choice(rows)  # noqa: S311 - sampling, no secret
        language = info.languages[0] if info.languages else "en"

        def cut() -> _Probe | None:
            text = PassagePayload.decode(row.payload).text
            longest = max((" ".join(text[s.start : s.end].split()) for s in sentences(text)), key=len, default="")
            asked = longest[:_LONGEST]
            while space.embedder.count_tokens(asked) > space.embedder.max_tokens:
                asked = asked[: len(asked) * 3 // 4]
            terms = tuple(dict.fromkeys(analyse(asked, (language,))))
            return _Probe(info.id, language, asked, terms) if len(asked) >= _SHORTEST and terms else None

        return await to_thread.run_sync(cut)


def _beyond(share: float, chance: float) -> float:
    """0 for what chance finds, 1 for everything."""
    return max(0.0, (share - chance) / (1.0 - chance))


def _is_changed(before: LegHealth, infos: Sequence[DocumentInfo]) -> bool:
    newer = sum(info.ingested_at is not None and info.ingested_at.isoformat() > before.judged_at for info in infos)
    gone = max(0, before.documents + newer - len(infos))
    return max(newer, gone) >= max(1.0, _CHANGED * before.documents)


def _chosen(infos: Sequence[DocumentInfo]) -> list[DocumentInfo]:
    """The same documents for the same collection: of each language alike, of those with enough of them."""
    spoken: dict[str, list[DocumentInfo]] = defaultdict(list)
    for info in sorted(infos, key=lambda one: one.id):
        spoken[info.languages[0] if info.languages else "en"].append(info)
    largest = sorted(spoken.values(), key=lambda those: -len(those))[: _SAMPLE // _FEWEST]
    languages = [those for those in largest if len(those) >= _FEWEST]
    chance = random.Random(_SEED)  # noqa: S311 - sampling, no secret
    each = _SAMPLE // max(1, len(languages))
    chosen = [info for those in languages for info in chance.sample(those, min(each, len(those)))]
    chance.shuffle(chosen)
    return chosen


def _is_found(probe: _Probe, hits: Sequence[Hit], cut: int) -> bool:
    return probe.document in list(dict.fromkeys(hit.document_id for hit in hits))[:cut]
