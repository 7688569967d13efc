"""What spaces talk about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from interlock.core.errors import InterlockError
from interlock.core.ids import DocumentId
from interlock.core.ports import Embedder
from interlock.stores.index.base import IndexScope

__all__ = [
    "BuildReport",
    "Known",
    "OpenSpace",
    "Opening",
    "Outstanding",
    "Refused",
    "Space",
    "SpacesStatus",
    "Standing",
    "collection_of",
    "place_of",
]

_MARK = "@"
"""No collection's name holds it."""


def place_of(collection: str, space: str) -> str:
    """The index's name for the rows of a space that was built beside another.

    The first space of a collection stands under the collection's own name, as it did before there were several.
    """
    return f"{collection}{_MARK}{hashlib.sha256(space.encode()).hexdigest()[:16]}"


def collection_of(place: str) -> str:
    """The collection whose rows stand at a place of the index."""
    return place.partition(_MARK)[0]


@dataclass(frozen=True, slots=True)
class Opening:
    """How an embedder is opened again."""

    name: str
    """Plug-in."""
    model: str = ""
    # Any: settings of several types, JSON.
    facts: Mapping[str, Any] = field(default_factory=dict)
    """`EmbedderFacts` as JSON; empty for embedders that need none."""


@dataclass(frozen=True, slots=True)
class Space:
    """One space of a collection, as stored."""

    id: str
    """The embedder's identity."""
    place: str
    """The index's name for its rows."""
    opening: Opening | None
    """None for one that was made before openings were noted, by an embedder nobody names now."""
    created_at: datetime | None = None
    created_by: str = ""
    built_at: datetime | None = None
    """When a build last found every passage in it; None for the first space of a collection."""
    seconds: float = 0.0
    """Spent building it."""
    tokens: int = 0
    """Embedded for it beside the space that answered."""
    error_code: str = ""
    """Why the last write to it stopped; empty when it did not."""
    error_message: str = ""
    # Any: JSON of `flows.embedder_change`.
    comparison: Mapping[str, Any] | None = None
    switched_at: datetime | None = None
    """When it began to answer; None for the first."""
    switched_by: str = ""


class Standing(NamedTuple):
    """The spaces of a collection."""

    answers: str | None
    """Id of the one that answers; None for a collection that was never ingested."""
    spaces: tuple[Space, ...]
    """Those that are noted."""
    # Any: JSON of `knowledge.legs`.
    legs: Mapping[str, Any] | None = None
    """What was found of the legs of its searches; None for nothing."""


@dataclass(frozen=True, slots=True)
class OpenSpace:
    """A space that can be searched and written."""

    space: Space
    scope: IndexScope
    opened: Embedder | None
    error: InterlockError | None = None
    """Why there is no embedder."""
    # Any: JSON of `knowledge.legs`.
    legs: Mapping[str, Any] | None = None
    """What was found of the legs of its collection's searches."""

    @property
    def id(self) -> str:
        """The embedder's identity."""
        return self.space.id

    @property
    def embedder(self) -> Embedder:
        """The embedder. Raises: Misconfigured, ModelMissing …: it cannot be opened."""
        if self.opened is None:
            assert self.error is not None, "one of both is there"
            raise self.error
        return self.opened

    def check(self) -> None:
        """Raises: as `embedder`."""
        _ = self.embedder


class Known(NamedTuple):
    """What a space that does not answer holds of one document."""

    document: DocumentId
    text_digest: str
    made_of: str
    """Digest of the kept passages of the answering space that it was made of; empty where those were not kept."""
    kept_digest: str
    """Of its own passages with their vectors."""
    passages: int
    passages_digest: str
    """As of `preparing.passages_digest`."""
    written: bool
    """The index holds them."""


class Outstanding(NamedTuple):
    """A document that a space does not hold as it is now."""

    document: DocumentId
    source: str
    passages: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that a space cannot take."""

    source: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did."""

    collection: str
    space: str
    documents: int
    """Written by this run; those that were there already are not counted."""
    passages: int
    embedded: int
    """Passages whose vectors were not kept from an earlier run."""
    tokens: int
    cut_again: int
    """Documents with a passage that was too long for this embedder."""
    refused: tuple[Refused, ...]
    complete: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class SpacesStatus:
    """Where a collection stands."""

    collection: str
    answers: Space
    configured: str
    """Space of the embedder that the settings name; empty when it cannot be opened."""
    configured_error: str
    beside: Space | None
    """The one that does not answer: being built, or the one that answered before."""
    outstanding: tuple[Outstanding, ...]
    """Documents that `beside` lacks."""
    documents: int
    passages: int
    """Of the collection."""
    sizes: Mapping[str, int]
    """Bytes in the index, by space."""

    @property
    def complete(self) -> bool:
        """`beside` holds everything: it can answer."""
        return self.beside is not None and not self.outstanding
