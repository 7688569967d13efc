"""Languages of documents. Those of before are read as English until their next ingest, as they were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import Json

revision = "0007_languages"
down_revision = "0006_batch_lanes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("knowledge_documents") as table:
        table.add_column(sa.Column("languages", Json, nullable=False, server_default='["en"]'))
    with op.batch_alter_table("knowledge_documents") as table:
        table.alter_column("languages", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("knowledge_documents") as table:
        table.drop_column("languages")
