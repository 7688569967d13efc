"""Retired releases, and why channels were moved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import UtcDateTime

revision = "0016_retired"
down_revision = "0015_rollouts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("releases", sa.Column("retired_at", UtcDateTime, nullable=True))
    op.add_column("releases", sa.Column("retired_by", sa.String(128), nullable=False, server_default=""))
    op.add_column("releases", sa.Column("retired_reason", sa.Text, nullable=False, server_default=""))
    op.add_column("channel_moves", sa.Column("reason", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("channel_moves", "reason")
    op.drop_column("releases", "retired_reason")
    op.drop_column("releases", "retired_by")
    op.drop_column("releases", "retired_at")
