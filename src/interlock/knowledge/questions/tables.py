"""Tables of questions."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.ids import DocumentId, TenantId
from interlock.stores.sql.base import UtcDateTime, metadata

__all__ = ["forget_questions", "knowledge_question_answers", "knowledge_questions"]

knowledge_questions = sa.Table(
    "knowledge_questions",
    metadata,
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
    sa.Index("ix_knowledge_questions_tenant_collection", "tenant", "collection"),
)

knowledge_question_answers = sa.Table(
    "knowledge_question_answers",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("question_id", sa.Text, primary_key=True),
    sa.Column("document_id", sa.Text, primary_key=True),
    sa.Column("text_digest", sa.Text, nullable=False),
    sa.Column("span_start", sa.Integer, nullable=False),
    sa.Column("span_end", sa.Integer, nullable=False),
    sa.Column("quote", sa.Text, nullable=False),
    sa.Column("grade", sa.Integer, nullable=False),
    sa.Index("ix_knowledge_question_answers_tenant_document", "tenant", "document_id"),
)
"""A span that ends where it starts is none: only the document is known."""

_Q, _A = knowledge_questions, knowledge_question_answers


def forget_questions(connection: Connection, tenant: TenantId, document: DocumentId) -> None:
    """As part of a document's deletion: every question that names it, whatever else it names."""
    named = sa.select(_A.c.question_id).where(_A.c.tenant == tenant, _A.c.document_id == document)
    ids = [row.question_id for row in connection.execute(named)]
    for one in ids:
        connection.execute(sa.delete(_A).where(_A.c.tenant == tenant, _A.c.question_id == one))
        connection.execute(sa.delete(_Q).where(_Q.c.tenant == tenant, _Q.c.id == one))
