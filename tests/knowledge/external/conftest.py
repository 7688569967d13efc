from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from interlock.knowledge import KnowledgeService, KnowledgeSettings, parse_spec
from interlock.knowledge.external.service import Away
from interlock.knowledge.store import knowledge_documents
from interlock.stores.blob.files import FileBlobs
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import Sql, open_sql
from interlock.testing.embedders import HashEmbedder
from interlock.testing.search_index import SearchIndex, serve_index

MAPPING = {
    "text": "text",
    "title": "text",
    "acl.readers": "keyword",
    "url": "keyword",
    "team": "keyword",
    "year": "long",
    "updated": "date",
    "live": "boolean",
    "vector": "vector",
}
FIELDS = {
    "text": "text",
    "title": "title",
    "readers": "acl.readers",
    "url": "url",
    "metadata": {
        "team": "team",
        "year": {"field": "year", "type": "number"},
        "updated": {"field": "updated", "type": "date"},
        "live": {"field": "live", "type": "boolean"},
    },
}


@dataclass
class Branch:
    """A knowledge service whose collection `docs` stands in an index elsewhere."""

    server: SearchIndex
    sql: Sql
    blobs: FileBlobs
    index: SqliteIndex
    folder: Path
    embedder: HashEmbedder = field(default_factory=HashEmbedder)
    environ: dict = field(default_factory=dict)

    def spec(self, **index):
        values = {"kind": self.server.kind, "url": self.server.url, "index": "handbook", "fields": FIELDS, **index}
        return parse_spec({"collection": "docs", "index": values}, base=self.folder, name="docs.yaml")

    def knowledge(self, **index):
        away = Away("docs", self.spec(**index).index, ("en",))
        return KnowledgeService(
            self.sql,
            self.blobs,
            self.index,
            settings=KnowledgeSettings(),
            embedder=self.embedder,
            environ=self.environ,
            external=lambda tenant: {"docs": away} if tenant == "acme" else {},
        )

    async def put(self, name, text, *readers, **facts):
        [vector] = await self.embedder.embed([text[:400]], "passage")
        document = {"text": text, "vector": vector.tolist(), **facts}
        if readers:
            document["acl"] = {"readers": list(readers)}
        self.server.documents[name] = document


@pytest.fixture(params=["opensearch", "elasticsearch"])
async def branch(request, tmp_path):
    """The registry of one back end: it takes no part in what these tests look at."""
    sql = open_sql(f"sqlite:///{tmp_path}/control.db")
    await sql.write(knowledge_documents.metadata.create_all)
    blobs, index = FileBlobs(tmp_path / "blobs"), SqliteIndex(tmp_path / "index")
    with serve_index(SearchIndex(request.param, MAPPING)) as server:
        yield Branch(server, sql, blobs, index, tmp_path)
    await index.close()
    await blobs.close()
    await sql.close()
