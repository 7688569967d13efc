"""Quotas handed out, limit rules, and what the ledger says besides tokens and money."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import Json, UtcDateTime

revision = "0003_quotas"
down_revision = "0002_parts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "kv_grants",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("counter", sa.Text(), nullable=False),
        sa.Column("slot", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "counter", "slot", name=op.f("pk_kv_grants")),
    )
    op.create_index(op.f("ix_kv_grants_expires_ms"), "kv_grants", ["expires_ms"])
    op.create_table(
        "limit_rules",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("pk_limit_rules")),
    )
    with op.batch_alter_table("ledger") as table:
        table.add_column(sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("tags", Json, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("ledger") as table:
        table.drop_column("tags")
        table.drop_column("cache_write_tokens")
    op.drop_table("limit_rules")
    op.drop_index(op.f("ix_kv_grants_expires_ms"), table_name="kv_grants")
    op.drop_table("kv_grants")
