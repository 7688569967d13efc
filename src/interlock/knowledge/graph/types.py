"""What the graph talks about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from interlock.core.ids import DocumentId
from interlock.core.passages import Span

__all__ = ["ABOUT", "TOGETHER", "Edge", "Entity", "Extracted", "GraphView", "Mention", "Place", "Sentence", "Stated"]

TOGETHER = "together"
"""Both stand in one sentence, which says nothing that a rule understands."""
ABOUT = "about"
"""One is the heading above a sentence with the other."""


class Mention(NamedTuple):
    """An entity at one place of a text."""

    key: str
    """Its name without case, determiners and titles; see `aliases.key_of`."""
    name: str
    """As it is written."""
    start: int
    end: int


class Stated(NamedTuple):
    """A relation that a sentence states in words."""

    source: str
    """Key."""
    kind: str
    """``reports to``, ``replaces``, ``head of`` …"""
    target: str
    """Key."""
    start: int
    end: int


class Sentence(NamedTuple):
    """A sentence, row or heading that mentions something."""

    start: int
    end: int
    heading: str
    """Key of the heading above it; empty without one, and for the heading itself."""
    mentions: tuple[Mention, ...]
    """In their order; they do not overlap."""
    stated: tuple[Stated, ...]


class Extracted(NamedTuple):
    """What one text says."""

    sentences: tuple[Sentence, ...]
    aliases: tuple[tuple[str, str], ...]
    """Keys of short forms and of what they stand for."""
    characters: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is said. The caller may read this document."""

    document_id: DocumentId
    source: str
    """Path of the document."""
    digest: str
    """``sha256:`` of the text that the span points into."""
    span: Span


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that readable documents name."""

    key: str
    name: str
    """As it is written most often."""
    aliases: tuple[str, ...]
    """Other names, by their letters."""
    mentions: int
    documents: int
    places: Sequence[Place]
    """The first of them."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What readable documents say of two entities."""

    source: str
    """Key."""
    kind: str
    target: str
    """Key. `together` has no direction: the smaller key stands first."""
    count: int
    """Sentences that say it."""
    places: Sequence[Place]
    """The first of them."""


@dataclass(frozen=True, slots=True)
class GraphView:
    """A part of the graph, as one caller may see it."""

    collection: str
    entities: Sequence[Entity]
    """The one asked for first, then by how much is said of them."""
    edges: Sequence[Edge]
    """Stated relations first, then by count."""
    total: int
    """Entities in all that this caller may see."""
