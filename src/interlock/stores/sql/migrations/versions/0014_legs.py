"""Which legs of a collection's searches are of use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import Json

revision = "0014_legs"
down_revision = "0013_questions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("knowledge_collections", sa.Column("legs", Json, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("knowledge_collections") as table:
        table.drop_column("legs")
