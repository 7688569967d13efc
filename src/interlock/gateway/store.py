"""Tables of what callers asked the gateway to keep: responses, conversations, files, batches and their lines."""

from __future__ import annotations

import sqlalchemy as sa

from interlock.stores.sql.base import Json, UtcDateTime, metadata

__all__ = [
    "batch_asks",
    "batch_holds",
    "batch_lanes",
    "batch_lines",
    "batches",
    "conversation_items",
    "conversations",
    "files",
    "response_items",
    "responses",
]

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
    # `queued`, `in_progress` and `cancelled` are of answers made in the background; `completed` is any that ended.
    sa.Column("state", sa.String(16), nullable=False, server_default="completed"),
    # `@` and the workspace's tenant until the job is queued; empty for an answer that nobody waits for.
    sa.Column("job", sa.String(80), nullable=False, server_default=""),
    sa.Index("ix_responses_expires_at", "expires_at"),
    sa.Index("ix_responses_tenant_owner", "tenant", "owner"),
    sa.Index("ix_responses_state", "state"),
)
"""Input and answer of `/v1/responses`, sealed."""

response_items = sa.Table(
    "response_items",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(32), primary_key=True),
    sa.Column("id", sa.String(256), primary_key=True),
    sa.Column("response", sa.String(64), nullable=False),
    sa.Index("ix_response_items_tenant_response", "tenant", "response"),
)
"""Which stored response an item is in: the latest one that brought it."""

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(32), nullable=False),
    sa.Column("principal", sa.String(128), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    # Metadata of the caller.
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Index("ix_conversations_expires_at", "expires_at"),
    sa.Index("ix_conversations_tenant_owner", "tenant", "owner"),
)
"""`expires_at` moves on whenever something is added."""

conversation_items = sa.Table(
    "conversation_items",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("conversation", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(256), primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Index("ix_conversation_items_tenant_id", "tenant", "id"),
)
"""Items in the order of `place`."""

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
    # What was asked for: `auto`, `ordinary`, `half-price`.
    sa.Column("lane", sa.String(16), nullable=False, server_default="auto"),
    # What was taken: parts of the batch at providers, why the other lines are ordinary.
    sa.Column("lanes", Json),
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

batch_asks = sa.Table(
    "batch_asks",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("batch", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("trace_id", sa.String(32), primary_key=True),
)
"""One row a time that a line was sent to a model, written before it is: what a dead worker had under way."""

batch_lanes = sa.Table(
    "batch_lanes",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    # Our label at the provider.
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("batch", sa.String(64), nullable=False),
    sa.Column("home", sa.String(64), nullable=False),
    sa.Column("provider", sa.String(64), nullable=False),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("lines", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(80), nullable=False),
    sa.Column("remote", Json, nullable=False),
    # Failed steps in a row, and how often it was looked at: what the next wait depends on.
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("looks", sa.Integer, nullable=False),
    sa.Column("next_at", UtcDateTime, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix_batch_lanes_tenant_batch", "tenant", "batch"),
    sa.Index("ix_batch_lanes_home_state", "home", "state"),
)
"""One row a batch at a provider, written before anything is sent there, kept until nothing of it is left there."""

batch_holds = sa.Table(
    "batch_holds",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("batch", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("lane", sa.String(40), nullable=False),
    sa.Column("trace_id", sa.String(32), nullable=False),
    # The reservation, as the journal would hold it.
    sa.Column("held", Json, nullable=False),
    sa.Index("ix_batch_holds_tenant_lane", "tenant", "lane"),
)
"""One row a line that a provider's batch API has: what is reserved for it, until its result and charge replace it."""
