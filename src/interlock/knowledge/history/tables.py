"""Tables of history."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.ids import DocumentId, TenantId
from interlock.stores.sql.base import Json, UtcDateTime, metadata

__all__ = ["forget_entries", "knowledge_entries", "knowledge_erased", "knowledge_retired", "note_back", "note_retired"]

knowledge_entries = sa.Table(
    "knowledge_entries",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("document_id", sa.Text, nullable=False),
    sa.Column("content", Json, nullable=False),
    sa.Index("ix_knowledge_entries_tenant_document", "tenant", "document_id"),
)
"""What snapshots say of documents, by the digest that stands in their manifests."""

knowledge_retired = sa.Table(
    "knowledge_retired",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("document_id", sa.Text, primary_key=True),
    sa.Column("collection", sa.Text, nullable=False),
    sa.Column("retired_at", UtcDateTime, nullable=False),
    sa.Index("ix_knowledge_retired_tenant_at", "tenant", "retired_at"),
)
"""Documents that are found by nobody, and whose versions are kept for a while."""

knowledge_erased = sa.Table(
    "knowledge_erased",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("document_id", sa.Text, primary_key=True),
    sa.Column("collection", sa.Text, nullable=False),
    sa.Column("erased_at", UtcDateTime, nullable=False),
)
"""Documents that no run brings back. The id is a digest of the path: nothing else of them is left."""

_ENTRIES, _RETIRED, _ERASED = knowledge_entries, knowledge_retired, knowledge_erased


def note_retired(
    connection: Connection, tenant: TenantId, collection: str, ids: Collection[DocumentId], at: datetime
) -> None:
    """These left the registry now."""
    note_back(connection, tenant, ids)
    rows = [{"tenant": tenant, "document_id": one, "collection": collection, "retired_at": at} for one in sorted(ids)]
    if rows:
        connection.execute(sa.insert(_RETIRED), rows)


def note_back(connection: Connection, tenant: TenantId, ids: Collection[DocumentId]) -> None:
    """These are in the registry."""
    for one in sorted(ids):
        connection.execute(sa.delete(_RETIRED).where(_RETIRED.c.tenant == tenant, _RETIRED.c.document_id == one))


def forget_entries(connection: Connection, tenant: TenantId, document: DocumentId) -> None:
    """Nothing that snapshots say of this document is known any more."""
    of_document = (_ENTRIES.c.tenant == tenant, _ENTRIES.c.document_id == document)
    connection.execute(sa.delete(_ENTRIES).where(*of_document))
