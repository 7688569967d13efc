"""Embedding spaces of collections: the one that answers, and one that is built beside it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import Json, UtcDateTime

revision = "0012_spaces"
down_revision = "0011_history"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "knowledge_spaces",
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
    op.create_table(
        "knowledge_space_documents",
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
    )
    op.create_index(
        "ix_knowledge_space_documents_tenant_collection", "knowledge_space_documents", ["tenant", "collection", "space"]
    )


def downgrade() -> None:
    op.drop_table("knowledge_space_documents")
    op.drop_table("knowledge_spaces")
