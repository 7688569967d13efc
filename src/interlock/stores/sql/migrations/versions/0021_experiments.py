"""Experiments: several releases of a channel beside each other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import BigId, Json, UtcDateTime

revision = "0021_experiments"
down_revision = "0020_consumers"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "experiments",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("channel", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("plan", Json, nullable=False),
        sa.Column("seed", sa.String(64), nullable=False),
        sa.Column("planned_at", UtcDateTime, nullable=False),
        sa.Column("started_at", UtcDateTime, nullable=True),
        sa.Column("checked_at", UtcDateTime, nullable=True),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("report", Json, nullable=True),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("ix_experiments_tenant_app_channel", "experiments", ["tenant", "app", "channel"])
    op.create_table(
        "experiment_events",
        sa.Column("id", BigId, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("report", Json, nullable=True),
    )
    op.create_index("ix_experiment_events_tenant_experiment", "experiment_events", ["tenant", "experiment"])


def downgrade() -> None:
    op.drop_table("experiment_events")
    op.drop_table("experiments")
