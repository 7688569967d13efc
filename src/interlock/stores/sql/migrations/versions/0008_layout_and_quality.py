"""Boxes and quality of documents. Those of before have no boxes and count as well read until their next ingest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import Json

revision = "0008_layout_and_quality"
down_revision = "0007_languages"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("knowledge_documents") as table:
        table.add_column(sa.Column("quality", sa.Float, nullable=False, server_default="1"))
        table.add_column(sa.Column("review", Json, nullable=False, server_default="[]"))
    with op.batch_alter_table("knowledge_documents") as table:
        table.alter_column("quality", server_default=None)
        table.alter_column("review", server_default=None)
    with op.batch_alter_table("knowledge_versions") as table:
        table.add_column(sa.Column("boxes_digest", sa.Text, nullable=False, server_default=""))
    with op.batch_alter_table("knowledge_versions") as table:
        table.alter_column("boxes_digest", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("knowledge_versions") as table:
        table.drop_column("boxes_digest")
    with op.batch_alter_table("knowledge_documents") as table:
        table.drop_column("review")
        table.drop_column("quality")
