"""Queues of answers that people review."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import BigId, Json, UtcDateTime

revision = "0017_reviews"
down_revision = "0016_retired"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "review_queues",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("spec", Json, nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "review_items",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("queue", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("item", Json, nullable=False),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("asker", sa.String(200), nullable=False),
        sa.Column("final", sa.String(64), nullable=True),
        sa.Column("decided_by", sa.String(128), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("added_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "review_labels",
        sa.Column("id", BigId, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("queue", sa.String(64), nullable=False),
        sa.Column("item", sa.String(200), nullable=False),
        sa.Column("rater", sa.String(128), nullable=False),
        sa.Column("label", sa.String(64), nullable=True),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("seconds", sa.Float, nullable=True),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("tenant", "queue", "item", "rater", name="uq_review_labels_tenant_queue_item_rater"),
    )


def downgrade() -> None:
    op.drop_table("review_labels")
    op.drop_table("review_items")
    op.drop_table("review_queues")
