"""Where listings of sources go on, and from which source a document came. Documents of before are looked at again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import Json, UtcDateTime

revision = "0009_sources"
down_revision = "0008_layout_and_quality"
branch_labels = None
depends_on = None

_TEXTS = ("origin", "version", "name_hint")


def upgrade() -> None:
    op.create_table(
        "knowledge_sources",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("collection", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("cursor", sa.Text, nullable=True),
        sa.Column("attempted_at", UtcDateTime, nullable=True),
        sa.Column("synced_at", UtcDateTime, nullable=True),
        sa.Column("full_at", UtcDateTime, nullable=True),
        sa.Column("wanted_at", UtcDateTime, nullable=True),
        sa.Column("error_code", sa.Text, nullable=False),
        sa.Column("error_message", sa.Text, nullable=False),
    )
    with op.batch_alter_table("knowledge_documents") as table:
        for name in _TEXTS:
            table.add_column(sa.Column(name, sa.Text, nullable=False, server_default=""))
        table.add_column(sa.Column("stated_readers", Json, nullable=True))
    with op.batch_alter_table("knowledge_documents") as table:
        for name in _TEXTS:
            table.alter_column(name, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("knowledge_documents") as table:
        for name in (*_TEXTS, "stated_readers"):
            table.drop_column(name)
    op.drop_table("knowledge_sources")
