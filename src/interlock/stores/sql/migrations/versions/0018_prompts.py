"""Versions and labels of prompts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import BigId, Json, UtcDateTime

revision = "0018_prompts"
down_revision = "0017_reviews"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prompt_versions",
        sa.Column("id", BigId, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("prompt", sa.String(96), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("author", sa.String(128), nullable=False),
        sa.Column("rationale", sa.Text, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("component", Json, nullable=False),
        sa.Column("files", Json, nullable=False),
        sa.Column("base", Json, nullable=False),
        sa.UniqueConstraint("tenant", "prompt", "digest", name="uq_prompt_versions_tenant_prompt_digest"),
    )
    op.create_table(
        "prompt_labels",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("prompt", sa.String(96), primary_key=True),
        sa.Column("label", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("moved_by", sa.String(128), nullable=False),
        sa.Column("moved_at", UtcDateTime, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("prompt_labels")
    op.drop_table("prompt_versions")
