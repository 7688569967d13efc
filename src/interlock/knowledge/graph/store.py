"""Graphs of collections, as far as the asker may read them.

Built from the extracted texts of readable documents and kept in memory until the collection changes, like the lexicon:
an entity, an edge or a count that only other documents give rise to is never in what a caller gets.
"""

from __future__ import annotations

from interlock.knowledge.graph.extract import extract
from interlock.knowledge.graph.graph import Graph
from interlock.knowledge.graph.types import Extracted
from interlock.knowledge.readable import Bounds, ReadableTexts
from interlock.knowledge.store import DocumentStore
from interlock.stores.blob.base import Blobs

__all__ = ["Graphs"]

_BOUNDS = Bounds(collections=8, selections=8, characters=20_000_000)


class Graphs(ReadableTexts[Extracted, Graph]):
    """Graphs of all collections.

    Args:
        documents: says who may read what.
        blobs: the extracted texts.
    """

    def __init__(self, documents: DocumentStore, blobs: Blobs) -> None:
        super().__init__(documents, blobs, find=extract, make=Graph, bounds=_BOUNDS)
