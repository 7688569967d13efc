"""Items of a review queue that are for certain people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019_review_assigned"
down_revision = "0018_prompts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("review_items", sa.Column("assigned", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("review_items") as table:
        table.drop_column("assigned")
