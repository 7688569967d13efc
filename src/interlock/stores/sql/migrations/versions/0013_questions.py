"""Labelled questions of collections, with the spans that answer them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interlock.stores.sql.base import UtcDateTime

revision = "0013_questions"
down_revision = "0012_spaces"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "knowledge_questions",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("collection", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("end_user", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("edited", sa.Boolean, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("made_at", UtcDateTime, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("decided_at", UtcDateTime, nullable=True),
    )
    op.create_index("ix_knowledge_questions_tenant_collection", "knowledge_questions", ["tenant", "collection"])
    op.create_table(
        "knowledge_question_answers",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("question_id", sa.Text, primary_key=True),
        sa.Column("document_id", sa.Text, primary_key=True),
        sa.Column("text_digest", sa.Text, nullable=False),
        sa.Column("span_start", sa.Integer, nullable=False),
        sa.Column("span_end", sa.Integer, nullable=False),
        sa.Column("quote", sa.Text, nullable=False),
        sa.Column("grade", sa.Integer, nullable=False),
    )
    op.create_index(
        "ix_knowledge_question_answers_tenant_document", "knowledge_question_answers", ["tenant", "document_id"]
    )


def downgrade() -> None:
    op.drop_table("knowledge_question_answers")
    op.drop_table("knowledge_questions")
