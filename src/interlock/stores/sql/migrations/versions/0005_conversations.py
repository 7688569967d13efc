"""Conversations, items of stored responses, answers made in the background, lines of batches under way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import UtcDateTime

revision = "0005_conversations"
down_revision = "0004_responses"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("responses") as table:
        table.add_column(sa.Column("state", sa.String(length=16), nullable=False, server_default="completed"))
        table.add_column(sa.Column("job", sa.String(length=80), nullable=False, server_default=""))
        table.create_index("ix_responses_state", ["state"])
    op.create_table(
        "response_items",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("response", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "owner", "id", name=op.f("pk_response_items")),
    )
    op.create_index("ix_response_items_tenant_response", "response_items", ["tenant", "response"])
    op.create_table(
        "conversations",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.Column("principal", sa.String(length=128), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_conversations")),
    )
    op.create_index("ix_conversations_expires_at", "conversations", ["expires_at"])
    op.create_index("ix_conversations_tenant_owner", "conversations", ["tenant", "owner"])
    op.create_table(
        "conversation_items",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("conversation", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "conversation", "id", name=op.f("pk_conversation_items")),
    )
    op.create_index("ix_conversation_items_tenant_id", "conversation_items", ["tenant", "id"])
    op.create_table(
        "batch_asks",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("batch", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "batch", "number", "trace_id", name=op.f("pk_batch_asks")),
    )


def downgrade() -> None:
    for name in ("batch_asks", "conversation_items", "conversations", "response_items"):
        op.drop_table(name)
    with op.batch_alter_table("responses") as table:
        table.drop_index("ix_responses_state")
        table.drop_column("job")
        table.drop_column("state")
