"""Passages kept with their vectors, entries of snapshots, what was retired or erased, and collections that are held."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import Json, UtcDateTime

revision = "0011_history"
down_revision = "0010_cleaning"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "knowledge_entries",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("document_id", sa.Text, nullable=False),
        sa.Column("content", Json, nullable=False),
    )
    op.create_index("ix_knowledge_entries_tenant_document", "knowledge_entries", ["tenant", "document_id"])
    op.create_table(
        "knowledge_retired",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("document_id", sa.Text, primary_key=True),
        sa.Column("collection", sa.Text, nullable=False),
        sa.Column("retired_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_knowledge_retired_tenant_at", "knowledge_retired", ["tenant", "retired_at"])
    op.create_table(
        "knowledge_erased",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("document_id", sa.Text, primary_key=True),
        sa.Column("collection", sa.Text, nullable=False),
        sa.Column("erased_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "governance_certificates",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
    )
    with op.batch_alter_table("knowledge_versions") as versions:
        versions.add_column(sa.Column("kept_digest", sa.Text, nullable=False, server_default=""))
    with op.batch_alter_table("knowledge_collections") as collections:
        collections.add_column(sa.Column("held_snapshot", sa.Text, nullable=False, server_default=""))
        collections.add_column(sa.Column("held_by", sa.Text, nullable=False, server_default=""))
        collections.add_column(sa.Column("held_at", UtcDateTime, nullable=True))
    with op.batch_alter_table("knowledge_sources") as sources:
        sources.add_column(sa.Column("told", sa.Text, nullable=False, server_default=""))
    with op.batch_alter_table("knowledge_sources") as sources:
        sources.alter_column("told", server_default=None)
    with op.batch_alter_table("knowledge_versions") as versions:
        versions.alter_column("kept_digest", server_default=None)
    with op.batch_alter_table("knowledge_collections") as collections:
        collections.alter_column("held_snapshot", server_default=None)
        collections.alter_column("held_by", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("knowledge_sources") as sources:
        sources.drop_column("told")
    with op.batch_alter_table("knowledge_collections") as collections:
        for column in ("held_at", "held_by", "held_snapshot"):
            collections.drop_column(column)
    with op.batch_alter_table("knowledge_versions") as versions:
        versions.drop_column("kept_digest")
    for table in ("governance_certificates", "knowledge_erased", "knowledge_retired", "knowledge_entries"):
        op.drop_table(table)
