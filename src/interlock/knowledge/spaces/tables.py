"""Tables of spaces."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.ids import DocumentId, TenantId
from interlock.stores.sql.base import Json, UtcDateTime, metadata

__all__ = ["forget_known", "is_kept_for_a_space", "kept_for_spaces", "knowledge_space_documents", "knowledge_spaces"]

knowledge_spaces = sa.Table(
    "knowledge_spaces",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("collection", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("opening", Json, nullable=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("built_at", UtcDateTime, nullable=True),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("error_code", sa.Text, nullable=False),
    sa.Column("error_message", sa.Text, nullable=False),
    sa.Column("comparison", Json, nullable=True),
    sa.Column("switched_at", UtcDateTime, nullable=True),
    sa.Column("switched_by", sa.Text, nullable=False),
)
"""Which one answers stands in `knowledge_collections.embedder`. A collection of one space may have no row here."""

knowledge_space_documents = sa.Table(
    "knowledge_space_documents",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("document_id", sa.Text, primary_key=True),
    sa.Column("space", sa.Text, primary_key=True),
    sa.Column("collection", sa.Text, nullable=False),
    sa.Column("text_digest", sa.Text, nullable=False),
    sa.Column("made_of", sa.Text, nullable=False),
    sa.Column("kept_digest", sa.Text, nullable=False),
    sa.Column("passages", sa.Integer, nullable=False),
    sa.Column("passages_digest", sa.Text, nullable=False),
    sa.Column("written", sa.Boolean, nullable=False),
    sa.Index("ix_knowledge_space_documents_tenant_collection", "tenant", "collection", "space"),
)
"""What the space that does not answer holds. Of the one that answers, the registry itself says it."""

_KNOWN = knowledge_space_documents


def forget_known(connection: Connection, tenant: TenantId, document: DocumentId) -> set[str]:
    """As part of a document's deletion. Gives the blobs they named."""
    named = kept_for_spaces(connection, tenant, document)
    connection.execute(sa.delete(_KNOWN).where(_KNOWN.c.tenant == tenant, _KNOWN.c.document_id == document))
    return named


def kept_for_spaces(connection: Connection, tenant: TenantId, document: DocumentId) -> set[str]:
    """Blobs that spaces which do not answer keep of a document."""
    where = (_KNOWN.c.tenant == tenant, _KNOWN.c.document_id == document)
    return set(connection.execute(sa.select(_KNOWN.c.kept_digest).where(*where)).scalars()) - {""}


def is_kept_for_a_space(
    connection: Connection, tenant: TenantId, digest: str, *, besides: Collection[DocumentId] = ()
) -> bool:
    """Whether a space that does not answer refers to a blob, for another document than these."""
    query = sa.select(_KNOWN.c.document_id).where(_KNOWN.c.tenant == tenant, _KNOWN.c.kept_digest == digest).distinct()
    known = frozenset(besides)
    return any(row.document_id not in known for row in connection.execute(query))
