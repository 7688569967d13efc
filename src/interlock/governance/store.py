"""Tables of the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from interlock.stores.sql.base import BigId, UtcDateTime, insert_rows, metadata

__all__ = ["audit_heads", "audit_lines", "audit_tree", "governance_certificates", "insert_lines", "subject_keys"]

audit_lines = sa.Table(
    "audit_lines",
    metadata,
    sa.Column("seq", BigId, primary_key=True, autoincrement=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Column("leaf", sa.LargeBinary(32), nullable=False),
    sa.Index("ix_audit_lines_tenant_seq", "tenant", "seq"),
)
"""`data` is the canonical JSON that was hashed; the other columns are copies of it to search by."""

audit_tree = sa.Table(
    "audit_tree",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("frontier", sa.LargeBinary, nullable=False),
)
"""One row: the frontier to append to. Locked by every append, so positions have no gaps."""

audit_heads = sa.Table(
    "audit_heads",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("root", sa.LargeBinary(32), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
)

governance_certificates = sa.Table(
    "governance_certificates",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
)
"""`content` is the canonical JSON that was signed."""

subject_keys = sa.Table(
    "subject_keys",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("subject", sa.String(64), primary_key=True),
    sa.Column("sealed", sa.Text, nullable=False),
)
"""One key a person, sealed under the master key; deleting the row forgets the person."""


def insert_lines(conn: sa.Connection, lines: Sequence[tuple[int, str, datetime, str, bytes, bytes]]) -> None:
    """Add lines, each in the order of the table's columns."""
    if conn.dialect.name == "postgresql":
        names = [column.name for column in audit_lines.columns]
        conn.execute(audit_lines.insert(), [dict(zip(names, line, strict=True)) for line in lines])
        return
    rows = [
        (
            seq,
            tenant,
            (at if at.tzinfo is UTC else at.astimezone(UTC)).isoformat(" ", "microseconds")[:26],
            action,
            data,
            leaf,
        )
        for seq, tenant, at, action, data, leaf in lines
    ]
    insert_rows(conn, "audit_lines", [column.name for column in audit_lines.columns], rows)
