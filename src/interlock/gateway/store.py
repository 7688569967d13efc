"""Tables of what callers asked the gateway to keep: responses, files, batches and their lines."""

from __future__ import annotations

import sqlalchemy as sa

from interlock.stores.sql.base import Json, UtcDateTime, metadata

__all__ = ["batch_lines", "batches", "files", "responses"]

responses = sa.Table(
    "responses",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    # A keyed pseudonym of the end user, or of the calling principal when there is none.
    sa.Column("owner", sa.String(32), nullable=False),
    sa.Column("principal", sa.String(128), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Index("ix_responses_expires_at", "expires_at"),
    sa.Index("ix_responses_tenant_owner", "tenant", "owner"),
)
"""Input and answer of `/v1/responses`, sealed."""

files = sa.Table(
    "gateway_files",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(32), nullable=False),
    sa.Column("principal", sa.String(128), nullable=False),
    sa.Column("purpose", sa.String(32), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    # Of the sealed bytes in the object store.
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Index("ix_gateway_files_expires_at", "expires_at"),
    sa.Index("ix_gateway_files_tenant_owner", "tenant", "owner"),
)
"""Files that callers uploaded, and results of batches; `name` is sealed."""

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(32), nullable=False),
    sa.Column("principal", sa.String(128), nullable=False),
    # Who made it: principal, end user, groups, tags; sealed.
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("style", sa.String(16), nullable=False),
    sa.Column("endpoint", sa.String(64), nullable=False),
    sa.Column("window", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("input_file", sa.String(64), nullable=False),
    sa.Column("output_file", sa.String(64)),
    sa.Column("error_file", sa.String(64)),
    # `@` and the workspace's tenant until the job is queued.
    sa.Column("job", sa.String(80), nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("completed", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("metadata", Json, nullable=False),
    sa.Column("times", Json, nullable=False),
    sa.Column("errors", Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("ends_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Index("ix_batches_tenant_owner_created_at", "tenant", "owner", "created_at"),
    sa.Index("ix_batches_expires_at", "expires_at"),
)
"""`ends_at` closes the completion window; `expires_at` removes the row."""

batch_lines = sa.Table(
    "batch_lines",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("batch", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("ok", sa.Boolean, nullable=False),
    sa.Column("sealed", sa.Text, nullable=False),
)
"""One row a finished line: the primary key is what makes each line's result appear once."""
