"""Sampled answers, what detectors have seen of them, and alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import Json, UtcDateTime

revision = "0022_monitoring"
down_revision = "0021_experiments"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "monitor_samples",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("release", sa.String(80), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("asker", sa.String(200), nullable=False),
        sa.Column("documents", Json, nullable=False),
        sa.Column("content", Json, nullable=True),
        sa.Column("vector", sa.Text, nullable=False),
        sa.Column("scores", Json, nullable=True),
        sa.Column("scored_at", UtcDateTime, nullable=True),
        sa.Column("error", sa.String(64), nullable=False),
        sa.Column("cost_nano", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_monitor_samples_tenant_app_at", "monitor_samples", ["tenant", "app", "at"])
    op.create_table(
        "monitor_states",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("app", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("state", Json, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_table(
        "monitor_alerts",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("release", sa.String(80), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("facts", Json, nullable=False),
        sa.Column("traces", Json, nullable=False),
        sa.Column("acknowledged_by", sa.String(128), nullable=False),
        sa.Column("acknowledged_at", UtcDateTime, nullable=True),
    )
    op.create_index("ix_monitor_alerts_tenant_at", "monitor_alerts", ["tenant", "at"])


def downgrade() -> None:
    op.drop_table("monitor_alerts")
    op.drop_table("monitor_states")
    op.drop_table("monitor_samples")
