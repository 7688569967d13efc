"""What cleaning found in documents, what people decided, and contexts that a model wrote."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import Json, UtcDateTime

revision = "0010_cleaning"
down_revision = "0009_sources"
branch_labels = None
depends_on = None

_TEXTS = ("collection", "text_digest", "passages_digest", "exact", "critical")
_BYTES = ("minhash", "blocks", "left_out", "layout")


def upgrade() -> None:
    op.create_table(
        "knowledge_cleaned",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("document_id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in _TEXTS),
        sa.Column("words", sa.Integer, nullable=False),
        *(sa.Column(name, sa.LargeBinary, nullable=False) for name in _BYTES),
    )
    op.create_index("ix_knowledge_cleaned_tenant_collection", "knowledge_cleaned", ["tenant", "collection"])
    op.create_table(
        "knowledge_decisions",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("document_id", sa.Text, primary_key=True),
        sa.Column("text_digest", sa.Text, primary_key=True),
        sa.Column("collection", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("decided_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_knowledge_decisions_tenant_collection", "knowledge_decisions", ["tenant", "collection"])
    op.create_table(
        "knowledge_contexts",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("document_id", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
    )
    with op.batch_alter_table("knowledge_documents") as table:
        table.add_column(sa.Column("cleaning", Json, nullable=False, server_default="{}"))
    with op.batch_alter_table("knowledge_documents") as table:
        table.alter_column("cleaning", server_default=None)
    with op.batch_alter_table("knowledge_collections") as table:
        table.add_column(sa.Column("settled", sa.Text, nullable=False, server_default=""))
    with op.batch_alter_table("knowledge_collections") as table:
        table.alter_column("settled", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("knowledge_collections") as table:
        table.drop_column("settled")
    with op.batch_alter_table("knowledge_documents") as table:
        table.drop_column("cleaning")
    op.drop_table("knowledge_contexts")
    op.drop_table("knowledge_decisions")
    op.drop_table("knowledge_cleaned")
