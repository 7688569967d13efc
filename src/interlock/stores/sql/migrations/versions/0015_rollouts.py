"""Evidence of releases, moves of channels, and rollouts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import BigId, Json, UtcDateTime

revision = "0015_rollouts"
down_revision = "0014_legs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "channel_moves",
        sa.Column("id", BigId, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("channel", sa.String(32), nullable=False),
        sa.Column("release", sa.String(80), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_channel_moves_tenant_app_channel", "channel_moves", ["tenant", "app", "channel"])
    # Where channels point now is the first move that is known of them.
    op.execute(
        'INSERT INTO channel_moves (tenant, app, channel, release, "by", at) '
        "SELECT tenant, app, name, release, moved_by, moved_at FROM channels"
    )
    op.create_table(
        "release_evidence",
        sa.Column("id", BigId, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("release", sa.String(80), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("verdict", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("summary", Json, nullable=False),
    )
    op.create_index("ix_release_evidence_tenant_app_release", "release_evidence", ["tenant", "app", "release"])
    op.create_table(
        "rollouts",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("channel", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("control", sa.String(80), nullable=False),
        sa.Column("candidate", sa.String(80), nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("seed", sa.String(64), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("started_at", UtcDateTime, nullable=False),
        sa.Column("step_at", UtcDateTime, nullable=False),
        sa.Column("checked_at", UtcDateTime, nullable=True),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("checks", Json, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("ix_rollouts_tenant_app_channel", "rollouts", ["tenant", "app", "channel"])
    op.create_table(
        "rollout_events",
        sa.Column("id", BigId, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("rollout", sa.String(64), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("percent", sa.Float, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("checks", Json, nullable=False),
    )
    op.create_index("ix_rollout_events_tenant_rollout", "rollout_events", ["tenant", "rollout"])


def downgrade() -> None:
    op.drop_table("channel_moves")
    op.drop_table("rollout_events")
    op.drop_table("rollouts")
    op.drop_table("release_evidence")
