"""Copies and versions among the documents of one collection. Depends on the documents alone, not on their order.

A copy is hidden only behind a document that everybody who may read the copy may read too: whoever asks finds one of
them, and nobody learns of one that is not theirs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from interlock.core.ids import DocumentId
from interlock.knowledge.cleaning.signatures import HASHES, Signature, similar, tokens
from interlock.knowledge.cleaning.standing import Candidate, stem_of, subject_of
from interlock.knowledge.cleaning.types import VersionFacts

__all__ = ["Compared", "Hidden", "adds_nothing", "hidden", "versions"]

_ROWS = 4
_BANDS = HASHES // _ROWS
"""Two documents meet when one band of four hashes is the same: 99 % of pairs that share 60 % of their triples do."""
_NEAR = 0.9
_VERSIONS = 0.6
"""Share of word triples from which two documents of one subject with other numbers are versions of one thing."""
_NAMED = 0.3
"""The same for documents whose names differ in a version or a date alone."""
_CROWD = 50
"""Documents of one bucket that are compared with the others of it."""
_SMALL = 8
"""Words below which likeness says nothing."""
_OWN = 20
_OWN_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Compared:
    """One document as it is compared."""

    candidate: Candidate
    text_digest: str
    signature: Signature
    behind: Hidden | None = None
    """As it was decided before, so that texts are not read again."""

    @property
    def id(self) -> DocumentId:
        """Of the document."""
        return self.candidate.id

    def subject(self) -> str:
        """What its title is about."""
        return subject_of(self.candidate.title)


class Hidden(NamedTuple):
    """Behind which document another is hidden."""

    canonical: DocumentId
    digest: str
    """Text of the canonical when they were compared."""


ReadPair = Callable[[Compared, Compared], Awaitable[bool]]
"""Whether the first one's text says nothing that the second one's does not, see `adds_nothing`."""


def adds_nothing(text: str, canonical: str) -> bool:
    """Whether a text has hardly a word that another one has not: at most 2 %, and at most 20 words."""
    own: dict[str, int] = defaultdict(int)
    words = tokens(text)
    for word in words:
        own[word] += 1
    for word in tokens(canonical):
        own[word] -= 1
    more = sum(count for count in own.values() if count > 0)
    return more <= min(_OWN, _OWN_SHARE * len(words))


async def hidden(
    documents: Sequence[Compared], mode: Literal["off", "exact", "near"], says_nothing_new: ReadPair
) -> dict[DocumentId, Hidden]:
    """Which documents are not indexed, and what is found in their place.

    Args:
        documents: of one collection, all that may be indexed.
        mode: see :class:`~interlock.knowledge.cleaning.settings.CleaningSettings`.
        says_nothing_new: asked of near copies only.
    """
    if mode == "off":
        return {}
    ordered = sorted(documents, key=lambda d: d.candidate.order())
    gone: dict[DocumentId, Hidden] = {}
    keepers: dict[str, list[Compared]] = defaultdict(list)
    for document in ordered:
        if not document.signature.words:
            continue
        same = keepers[document.signature.exact]
        first = next((k for k in same if _covers(k, document)), None)
        if first is None:
            same.append(document)
        else:
            gone[document.id] = Hidden(first.id, first.text_digest)
    if mode == "near":
        await _hide_near([d for d in ordered if d.id not in gone], gone, says_nothing_new)
    return _resolved(gone, {document.id: document for document in ordered})


async def _hide_near(ordered: Sequence[Compared], gone: dict[DocumentId, Hidden], says_nothing_new: ReadPair) -> None:
    ranks = {document.id: rank for rank, document in enumerate(ordered)}
    meetings: dict[DocumentId, list[Compared]] = defaultdict(list)
    for one, other in _meetings(ordered):
        first, second = (one, other) if ranks[one.id] < ranks[other.id] else (other, one)
        meetings[second.id].append(first)
    for document in ordered:
        for canonical in sorted(meetings[document.id], key=lambda d: ranks[d.id]):
            if canonical.id in gone or not _covers(canonical, document) or not _near(document, canonical):
                continue
            known = document.behind == Hidden(canonical.id, canonical.text_digest)
            if known or await says_nothing_new(document, canonical):
                gone[document.id] = Hidden(canonical.id, canonical.text_digest)
                break


def _covers(canonical: Compared, document: Compared) -> bool:
    return document.candidate.readers <= canonical.candidate.readers


def _near(one: Compared, other: Compared) -> bool:
    a, b = one.signature, other.signature
    return (
        a.critical == b.critical
        and min(a.words, b.words) >= _SMALL
        and min(a.words, b.words) >= 0.9 * max(a.words, b.words)
        and similar(a.minhash, b.minhash) >= _NEAR
    )


def _resolved(gone: dict[DocumentId, Hidden], known: Mapping[DocumentId, Compared]) -> dict[DocumentId, Hidden]:
    """Behind what is itself found: a keeper of exact copies may be hidden behind a near one."""

    def end(one: Hidden) -> Hidden:
        while one.canonical in gone:
            one = gone[one.canonical]
        return one

    return {document: end(one) for document, one in gone.items()}


def _meetings(documents: Sequence[Compared]) -> list[tuple[Compared, Compared]]:
    """Pairs that may be alike, each once."""
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    width = 4 * _ROWS
    for number, document in enumerate(documents):
        if document.signature.words < _SMALL:
            continue
        for band in range(_BANDS):
            buckets[band, document.signature.minhash[band * width : (band + 1) * width]].append(number)
    pairs = {
        (members[a], members[b])
        for members in buckets.values()
        if len(members) > 1
        for a in range(min(len(members), _CROWD))
        for b in range(a + 1, len(members))
    }
    return [(documents[a], documents[b]) for a, b in sorted(pairs)]


def versions(documents: Sequence[Compared]) -> dict[DocumentId, VersionFacts]:
    """Documents that seem to be versions of one thing, told to each as far as all of its readers may read the others.

    Args:
        documents: of one collection, those that are indexed.
    """
    ordered = sorted(documents, key=lambda d: d.candidate.order())
    groups = _Groups(ordered)
    by_stem: dict[tuple[str, str], list[Compared]] = defaultdict(list)
    for document in ordered:
        stem = stem_of(document.candidate.source, document.candidate.title)
        if stem:
            by_stem[document.candidate.source.rpartition("/")[0], stem].append(document)
    for members in by_stem.values():
        for member in members[1:]:
            if _similar(members[0], member) >= _NAMED:
                groups.join(members[0], member)
    for one, other in _meetings(ordered):
        # Pages of one form are alike too; what is told apart by its title is not one thing.
        same = one.subject() == other.subject() and one.signature.critical != other.signature.critical
        if same and _similar(one, other) >= _VERSIONS:
            groups.join(one, other)
    return {one: facts for members in groups.all() for one, facts in _told(members).items()}


def _similar(one: Compared, other: Compared) -> float:
    return similar(one.signature.minhash, other.signature.minhash)


def _told(members: Sequence[Compared]) -> dict[DocumentId, VersionFacts]:
    """`members` best first."""
    key = hashlib.sha256(min(m.id for m in members).encode()).hexdigest()[:16]
    facts: dict[DocumentId, VersionFacts] = {}
    for member in members:
        seen = [m for m in members if m is member or _covers(m, member)]
        if len(seen) < 2:
            continue
        first, rank = seen[0], seen.index(member) + 1
        # Where nothing but the path tells them apart, none of them is called the newer one.
        is_newer = first is not member and first.candidate.standing > member.candidate.standing
        facts[member.id] = VersionFacts(key, rank, len(seen), first.id if is_newer else None)
    return facts


class _Groups:
    """Sets that grow together."""

    def __init__(self, documents: Sequence[Compared]) -> None:
        self._documents = documents
        self._parent = {document.id: document.id for document in documents}

    def join(self, one: Compared, other: Compared) -> None:
        a, b = self._root(one.id), self._root(other.id)
        if a != b:
            self._parent[max(a, b)] = min(a, b)

    def all(self) -> list[list[Compared]]:
        found: dict[DocumentId, list[Compared]] = defaultdict(list)
        for document in self._documents:
            found[self._root(document.id)].append(document)
        return [members for members in found.values() if len(members) > 1]

    def _root(self, id: DocumentId) -> DocumentId:  # noqa: A002 - of a document
        while self._parent[id] != id:
            self._parent[id] = self._parent[self._parent[id]]
            id = self._parent[id]  # noqa: A001
        return id
