"""A collection for an evaluation alone: a set in BEIR's format, ingested and kept beside the workspace's own data."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

from interlock.core.context import Context
from interlock.core.errors import NotFound
from interlock.knowledge.ports import ReportProgress
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.sources import parse_spec
from interlock.knowledge.types import IngestReport
from interlock.stores.blob.files import FileBlobs
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import open_sql

__all__ = ["COLLECTION", "document_name", "ingest_set", "shelf"]

COLLECTION = "set"


@asynccontextmanager
async def shelf(data: Path, folder: Path, knowledge: KnowledgeService) -> AsyncIterator[KnowledgeService]:
    """A service of its own over embedded stores, with the settings and models of `knowledge`.

    What was ingested is kept in ``data/evaluations``, so that the next run of the same set only searches.

    Args:
        data: the workspace's data folder.
        folder: of the set.
        knowledge: whose chunker, embedder and fusion are measured.
    """
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    home = data / "evaluations" / f"{folder.name}-{place}"
    home.mkdir(parents=True, exist_ok=True)
    sql = open_sql(f"sqlite:///{home / 'registry.db'}")
    blobs = FileBlobs(home / "blobs")
    index = SqliteIndex(home / "index")
    try:
        await sql.migrate()
        yield knowledge.beside(sql, blobs, index)
    finally:
        await index.close()
        await blobs.close()
        await sql.close()


async def ingest_set(
    knowledge: KnowledgeService, ctx: Context, folder: Path, progress: ReportProgress | None = None
) -> IngestReport:
    """Make the shelf hold the set's ``corpus.jsonl``. Raises: NotFound, InvalidInput; what an ingest raises."""
    corpus = folder / "corpus.jsonl"
    if not corpus.is_file():
        raise NotFound(f"{folder.name!r} holds no corpus.jsonl", param="set")
    spec = {
        "collection": COLLECTION,
        "sources": [{"kind": "jsonl", "path": str(corpus.resolve()), "id": "_id", "metadata": "metadata"}],
        "permissions": [{"match": "**", "readers": ["public"]}],
    }
    return await knowledge.ingest(ctx, parse_spec(spec, base=folder, name="set"), progress)


def document_name(source: str) -> str:
    """The corpus id of a document of the shelf."""
    return unquote(source)
