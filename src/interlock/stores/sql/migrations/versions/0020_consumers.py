"""Teams that read an app's answers, each with the schema that it reads them by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import Json, UtcDateTime

revision = "0020_consumers"
down_revision = "0019_review_assigned"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "release_consumers",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("app", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("schema", Json, nullable=False),
        sa.Column("contact", sa.String(200), nullable=False),
        sa.Column("set_by", sa.String(128), nullable=False),
        sa.Column("set_at", UtcDateTime, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("release_consumers")
