"""Reads and writes the tables of questions; every method takes the tenant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.ids import DocumentId, TenantId
from interlock.knowledge.questions.tables import knowledge_question_answers, knowledge_questions
from interlock.knowledge.store import knowledge_documents
from interlock.stores.sql.base import Sql

__all__ = ["QuestionStore", "StoredAnswer", "StoredQuestion"]

_Q, _A, _D = knowledge_questions, knowledge_question_answers, knowledge_documents
_IN_LIST = 500
"""Values a statement may list: SQLite bounds its parameters."""


class StoredAnswer(NamedTuple):
    """One row of the second table."""

    document: DocumentId
    text_digest: str
    start: int
    end: int
    quote: str
    grade: int


class StoredQuestion(NamedTuple):
    """One row of the first table, with its answers."""

    id: str
    collection: str
    text: str
    origin: str
    state: str
    end_user: str
    model: str
    edited: bool
    made_by: str
    made_at: datetime
    decided_by: str
    decided_at: datetime | None
    answers: tuple[StoredAnswer, ...] = ()


class QuestionStore:
    """See the tables."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    async def add(self, tenant: TenantId, question: StoredQuestion) -> bool:
        """Store a new one; False, and nothing stored, when a document of it has another text by now or is gone.

        The registry is looked at in the same transaction, so that nothing outlives an erasure.
        """

        def write(connection: Connection) -> bool:
            for answer in question.answers:
                where = (_D.c.tenant == tenant, _D.c.id == answer.document)
                if connection.scalar(sa.select(_D.c.text_digest).where(*where)) != answer.text_digest:
                    return False
            where_known = (_Q.c.tenant == tenant, _Q.c.id == question.id)
            if connection.execute(sa.select(_Q.c.id).where(*where_known)).first() is not None:
                return False
            values = question._asdict()
            del values["answers"]
            connection.execute(sa.insert(_Q).values(tenant=tenant, **values))
            for answer in question.answers:
                connection.execute(
                    sa.insert(_A).values(
                        tenant=tenant,
                        question_id=question.id,
                        document_id=answer.document,
                        text_digest=answer.text_digest,
                        span_start=answer.start,
                        span_end=answer.end,
                        quote=answer.quote,
                        grade=answer.grade,
                    )
                )
            return True

        return await self._sql.write(write)

    async def of_collection(self, tenant: TenantId, collection: str) -> list[StoredQuestion]:
        """All of a collection, oldest first."""

        def read(connection: Connection) -> list[StoredQuestion]:
            where = (_Q.c.tenant == tenant, _Q.c.collection == collection)
            rows = connection.execute(sa.select(_Q).where(*where).order_by(_Q.c.made_at, _Q.c.id)).all()
            return _whole(rows, _answers(connection, tenant, [row.id for row in rows]))

        return await self._sql.read(read)

    async def one(self, tenant: TenantId, question: str) -> StoredQuestion | None:
        """One by its id."""

        def read(connection: Connection) -> StoredQuestion | None:
            rows = connection.execute(sa.select(_Q).where(_Q.c.tenant == tenant, _Q.c.id == question)).all()
            return next(iter(_whole(rows, _answers(connection, tenant, [question]))), None)

        return await self._sql.read(read)

    # Any: columns of several types.
    async def change(self, tenant: TenantId, question: str, **values: Any) -> None:
        """Change columns of one."""

        def write(connection: Connection) -> None:
            connection.execute(sa.update(_Q).where(_Q.c.tenant == tenant, _Q.c.id == question).values(**values))

        await self._sql.write(write)

    async def count_of(self, tenant: TenantId, documents: Collection[DocumentId]) -> int:
        """How many questions name any of these documents."""
        wanted = sorted(documents)

        def read(connection: Connection) -> int:
            found: set[str] = set()
            for start in range(0, len(wanted), _IN_LIST):
                part = _A.c.document_id.in_(wanted[start : start + _IN_LIST])
                rows = connection.execute(sa.select(_A.c.question_id).where(_A.c.tenant == tenant, part))
                found.update(row.question_id for row in rows)
            return len(found)

        return await self._sql.read(read)

    async def forget_user(self, tenant: TenantId, user: str) -> int:
        """Remove what is asked as an end user; gives how many."""

        def write(connection: Connection) -> int:
            where = (_Q.c.tenant == tenant, _Q.c.end_user == user)
            ids = [row.id for row in connection.execute(sa.select(_Q.c.id).where(*where))]
            for one in ids:
                connection.execute(sa.delete(_A).where(_A.c.tenant == tenant, _A.c.question_id == one))
                connection.execute(sa.delete(_Q).where(_Q.c.tenant == tenant, _Q.c.id == one))
            return len(ids)

        return await self._sql.write(write) if user else 0


def _answers(connection: Connection, tenant: TenantId, ids: Sequence[str]) -> Mapping[str, list[StoredAnswer]]:
    found: dict[str, list[StoredAnswer]] = defaultdict(list)
    for start in range(0, len(ids), _IN_LIST):
        part = _A.c.question_id.in_(ids[start : start + _IN_LIST])
        query = sa.select(_A).where(_A.c.tenant == tenant, part).order_by(_A.c.document_id)
        for row in connection.execute(query):
            answer = StoredAnswer(
                DocumentId(row.document_id), row.text_digest, row.span_start, row.span_end, row.quote, row.grade
            )
            found[row.question_id].append(answer)
    return found


# Any: SQLAlchemy's rows carry no column types.
def _whole(rows: Sequence[Any], answers: Mapping[str, list[StoredAnswer]]) -> list[StoredQuestion]:
    return [
        StoredQuestion(
            row.id,
            row.collection,
            row.text,
            row.origin,
            row.state,
            row.end_user,
            row.model,
            row.edited,
            row.made_by,
            row.made_at,
            row.decided_by,
            row.decided_at,
            tuple(answers.get(row.id, ())),
        )
        for row in rows
    ]
