"""Parts of batches at providers' own batch APIs, and what is reserved for their lines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import Json, UtcDateTime

revision = "0006_batch_lanes"
down_revision = "0005_conversations"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("batches") as table:
        table.add_column(sa.Column("lane", sa.String(length=16), nullable=False, server_default="auto"))
        table.add_column(sa.Column("lanes", Json, nullable=True))
    op.create_table(
        "batch_lanes",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("batch", sa.String(length=64), nullable=False),
        sa.Column("home", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=80), nullable=False),
        sa.Column("remote", Json, nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("next_at", UtcDateTime, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_batch_lanes")),
    )
    op.create_index("ix_batch_lanes_tenant_batch", "batch_lanes", ["tenant", "batch"])
    op.create_index("ix_batch_lanes_home_state", "batch_lanes", ["home", "state"])
    op.create_table(
        "batch_holds",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("batch", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("lane", sa.String(length=40), nullable=False),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("held", Json, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "batch", "number", name=op.f("pk_batch_holds")),
    )
    op.create_index("ix_batch_holds_tenant_lane", "batch_holds", ["tenant", "lane"])


def downgrade() -> None:
    for name in ("batch_holds", "batch_lanes"):
        op.drop_table(name)
    with op.batch_alter_table("batches") as table:
        table.drop_column("lanes")
        table.drop_column("lane")
