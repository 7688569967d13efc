from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import interlock.testing.postgres
from interlock.core.clock import Deadline
from interlock.core.context import Context, EndUser, Principal, Role
from interlock.core.ids import PrincipalId, TenantId
from interlock.flows.scanning import DocumentScanner
from interlock.knowledge import KnowledgeService, KnowledgeSettings, parse_spec
from interlock.knowledge import store as tables
from interlock.knowledge.cleaning.store import knowledge_cleaned, knowledge_contexts, knowledge_decisions
from interlock.knowledge.history.tables import knowledge_entries, knowledge_erased, knowledge_retired
from interlock.knowledge.questions.tables import knowledge_question_answers, knowledge_questions
from interlock.knowledge.source_store import knowledge_sources
from interlock.knowledge.spaces.tables import knowledge_space_documents, knowledge_spaces
from interlock.stores.blob.files import FileBlobs
from interlock.stores.index.postgres import PostgresIndex
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import Sql, open_sql
from interlock.testing.embedders import HashEmbedder
from interlock.testing.postgres import fresh_database

HISTORY_TABLES = (
    knowledge_entries,
    knowledge_erased,
    knowledge_retired,
    knowledge_questions,
    knowledge_question_answers,
)

postgres_server = interlock.testing.postgres.postgres_server


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


def caller(*groups, tenant="acme", roles=(), user="ada"):
    principal = Principal(PrincipalId("svc"), "service", frozenset(roles))
    # OPERATOR lives as long as the run: its deadline must not end before.
    return Context(TenantId(tenant), principal, EndUser(user, frozenset(groups)), deadline=Deadline.after(86_400))


OPERATOR = caller(roles=(Role.OPERATOR,), user="olga")


@dataclass
class House:
    """A knowledge service over real SQL and blobs, and a folder of documents."""

    knowledge: KnowledgeService
    index: FaultyIndex
    embedder: HashEmbedder
    folder: Path
    sql: Sql
    blobs: FileBlobs

    def spec(self, permissions=None, **more):
        rules = permissions if permissions is not None else [{"match": "**", "readers": ["public"]}]
        values = {"collection": "docs", "sources": [{"path": "documents"}], "permissions": rules, **more}
        return parse_spec(values, base=self.folder.parent, name="docs.yaml")

    async def ingest(self, ctx=OPERATOR, progress=None, *, allow_removals=False, **spec):
        return await self.knowledge.ingest(ctx, self.spec(**spec), progress, allow_removals=allow_removals)

    async def search(self, query, ctx=None, **more):
        return await self.knowledge.search(ctx or caller(), query, collection="docs", **more)

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


class FaultyIndex:
    """A real index that counts its writes and fails one of them when asked to."""

    def __init__(self, inner):
        self._inner = inner
        self.applied = 0
        self.fail_next = None

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def apply(self, scope, *, upsert, delete):
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        self.applied += 1
        await self._inner.apply(scope, upsert=upsert, delete=delete)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def house(request, tmp_path):
    """The embedded back ends, and PostgreSQL for both the registry and the index."""
    if request.param == "sqlite":
        sql = open_sql(f"sqlite:///{tmp_path}/control.db")
        inner = SqliteIndex(tmp_path / "index")
    else:
        sql = open_sql(fresh_database(request.getfixturevalue("postgres_server")))
        inner = PostgresIndex(sql)
    names = [
        tables.knowledge_documents,
        tables.knowledge_versions,
        tables.knowledge_collections,
        tables.knowledge_snapshots,
        knowledge_sources,
        knowledge_cleaned,
        knowledge_decisions,
        knowledge_contexts,
        *HISTORY_TABLES,
        knowledge_spaces,
        knowledge_space_documents,
    ]
    await sql.write(lambda connection: names[0].metadata.create_all(connection, tables=names))
    blobs = FileBlobs(tmp_path / "blobs")
    index = FaultyIndex(inner)
    embedder = HashEmbedder()
    folder = tmp_path / "documents"
    folder.mkdir()
    settings = KnowledgeSettings(batch_passages=4, max_file_bytes=2_000_000)
    knowledge = KnowledgeService(sql, blobs, index, settings=settings, embedder=embedder, scanner=DocumentScanner())
    yield House(knowledge, index, embedder, folder, sql, blobs)
    await index.close()
    await blobs.close()
    await sql.close()


@pytest.fixture(scope="session")
def models(models_dir: Path) -> Path:
    """The folder of real models; a test that needs one fails, and is not skipped, without it."""
    return models_dir
