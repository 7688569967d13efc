"""The governance part's door: append, record, list, prove, verify."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

import msgspec
import sqlalchemy as sa

from interlock.core.audit import AuditEvent
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError, NotFound
from interlock.core.ids import TenantId
from interlock.core.release import Release
from interlock.governance import store
from interlock.governance.certificates import Certificates
from interlock.governance.envelopes import Opened, open_envelope, seal_envelope
from interlock.governance.merkle import Frontier, inclusion_proof, leaf_hash
from interlock.governance.signing import HeadSigner
from interlock.governance.store import audit_heads, audit_lines, audit_tree
from interlock.governance.subjects import ERASED, Subjects
from interlock.governance.types import AuditLine, Head, Verification
from interlock.stores.sql.base import Sql

__all__ = ["Governance", "Record", "payload_of"]

_COMMIT_EVERY_S = 0.1
_log = logging.getLogger("interlock.audit")


@dataclass(slots=True)
class Record:
    """What a request adds to its audit line while it runs."""

    subject: str = ""
    details: dict[str, str | int | bool] = field(default_factory=dict)

    def set(self, **details: str | int | bool) -> None:
        """Add details."""
        self.details.update(details)


class Governance:
    """The audit log of this installation. Implements :class:`interlock.core.audit.AuditLog`."""

    def __init__(self, sql: Sql, signer: HeadSigner, subjects: Subjects) -> None:
        self._sql = sql
        self._signer = signer
        self._subjects = subjects
        self.certificates = Certificates(sql, signer)
        """Signed statements of what was done."""
        self._queued: list[AuditEvent] = []
        self._flusher: asyncio.Task[None] | None = None
        # Held while lines are written, so that they reach the log in the order they were queued.
        self._writing = asyncio.Lock()

    @asynccontextmanager
    async def record(
        self, ctx: Context, release: Release | None, *, action: str = "chat.answer"
    ) -> AsyncIterator[Record]:
        """One audit line on every exit, with its outcome."""
        record = Record()
        outcome = "ok"
        try:
            yield record
        except InterlockError as error:
            outcome = error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "client_left"
            raise
        except BaseException:
            outcome = "internal_error"
            raise
        finally:
            self.append_soon(
                AuditEvent(
                    tenant=ctx.tenant,
                    actor=ctx.principal.id,
                    action=action,
                    subject=record.subject or (release.id if release else ""),
                    outcome=outcome,
                    details={**({"app": release.app} if release else {}), **record.details},
                    end_user=ctx.end_user.id if ctx.end_user else "",
                    trace_id=ctx.trace_id,
                )
            )

    async def append(self, event: AuditEvent) -> None:
        """See :class:`interlock.core.audit.AuditLog`."""
        self._queued.append(event)
        await self.flush()

    def append_soon(self, event: AuditEvent) -> None:
        """See :class:`interlock.core.audit.AuditLog`."""
        self._queued.append(event)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await asyncio.sleep(_COMMIT_EVERY_S)
        try:
            await self.flush()
        except InterlockError as error:
            # The lines stay queued and go with the next commit; health and doctor show the queue.
            _log.error("audit lines wait for the database: %s", error.code)

    @property
    def waiting(self) -> int:
        """Lines not yet committed."""
        return len(self._queued)

    async def flush(self) -> None:
        """Commit everything queued so far as one batch with one signed head."""
        # Shielded: a caller that is cancelled between the commit and the clearing of the queue would write lines twice.
        await asyncio.shield(asyncio.ensure_future(self._flush()))

    async def _flush(self) -> None:
        async with self._writing:
            events = list(self._queued)
            if not events:
                return
            users = {(e.tenant, e.end_user) for e in events if e.end_user}
            sealed = {key: await self._subjects.seal(*key) for key in users}
            payloads = [payload_of(event, sealed.get((event.tenant, event.end_user), "")) for event in events]
            await self._sql.write(lambda conn: self._insert(conn, events, payloads))
            del self._queued[: len(events)]

    def _insert(self, conn: sa.Connection, events: Sequence[AuditEvent], payloads: Sequence[bytes]) -> None:
        # FOR UPDATE serialises appends of several processes on PostgreSQL; SQLite has one writer anyway.
        row = conn.execute(sa.select(audit_tree).where(audit_tree.c.id == 1).with_for_update()).one_or_none()
        frontier = Frontier() if row is None else _unpack(row.size, row.frontier)
        leaves = [leaf_hash(payload) for payload in payloads]
        lines = [
            (seq, event.tenant, event.at, event.action, payload, leaf)
            for seq, event, payload, leaf in zip(count(frontier.size), events, payloads, leaves, strict=False)
        ]
        store.insert_lines(conn, lines)
        frontier = frontier.extend(leaves)
        state = {"size": frontier.size, "frontier": b"".join(frontier.nodes)}
        if row is None:
            conn.execute(audit_tree.insert().values(id=1, **state))
        else:
            conn.execute(audit_tree.update().where(audit_tree.c.id == 1).values(**state))
        at = now()
        conn.execute(
            audit_heads.insert().values(
                size=frontier.size,
                root=frontier.root,
                at=at,
                signature=self._signer.sign(frontier.size, frontier.root, at),
            )
        )

    async def lines(
        self, ctx: Context, *, before: int | None = None, action: str | None = None, limit: int = 100
    ) -> Sequence[AuditLine]:
        """Lines of the caller's tenant, newest first; `before` is the last `seq` seen. Those still queued are written
        first, so that a caller finds what it just did.
        """
        await self.flush()
        query = sa.select(audit_lines).where(audit_lines.c.tenant == ctx.tenant)
        if before is not None:
            query = query.where(audit_lines.c.seq < before)
        if action is not None:
            query = query.where(audit_lines.c.action == action)
        query = query.order_by(audit_lines.c.seq.desc()).limit(limit)
        rows = await self._sql.read(lambda conn: conn.execute(query).all())
        decoded = [(row, json.loads(row.data)) for row in rows]
        users = await self._subjects.open_all(ctx.tenant, {d["end_user"] for _, d in decoded if d["end_user"]})
        return [_line(row, data, users.get(data["end_user"], "")) for row, data in decoded]

    async def head(self) -> Head:
        """The newest signed root. Raises: NotFound: an empty log."""
        row = await self._sql.read(
            lambda conn: conn.execute(sa.select(audit_heads).order_by(audit_heads.c.size.desc()).limit(1)).one_or_none()
        )
        if row is None:
            raise NotFound("the audit log is empty")
        return Head(row.size, row.root.hex(), row.at, row.signature)

    @property
    def public_key(self) -> str:
        """Base64 Ed25519 key that signs heads."""
        return self._signer.public_key

    def seal(self, payload_type: str, payload: bytes) -> bytes:
        """A DSSE envelope signed with this installation's key, for use elsewhere."""
        return seal_envelope(self._signer, payload_type, payload)

    def open(self, data: bytes, payload_type: str, keys: Sequence[str] = ()) -> Opened:
        """What a DSSE envelope holds, signed by this installation or by one of `keys` (base64, raw Ed25519).

        Raises: InvalidInput: it is none, was changed, or is signed by nobody who is trusted.
        """
        return open_envelope(data, payload_type, [*keys, self._signer.public_key])

    async def prove(self, seq: int) -> tuple[Head, list[str]]:
        """Inclusion proof (hex, lowest level first) of a line under the newest head. Reads every leaf hash."""
        head = await self.head()
        leaves = await self._sql.read(
            lambda conn: list(
                conn.execute(
                    sa.select(audit_lines.c.leaf).where(audit_lines.c.seq < head.size).order_by(audit_lines.c.seq)
                ).scalars()
            )
        )
        if not 0 <= seq < len(leaves):
            raise NotFound(f"there is no audit line {seq}", param="seq")
        return head, [node.hex() for node in inclusion_proof(leaves, seq)]

    async def verify(self, *, size: int | None = None, root: str | None = None) -> Verification:
        """Recompute the whole log from its lines and check every signed head.

        Args:
            size: with `root`, a head kept elsewhere that this log must contain.
        """
        lines = await self._sql.read(
            lambda conn: conn.execute(sa.select(audit_lines).order_by(audit_lines.c.seq)).all()
        )
        tree = await self._sql.read(lambda conn: conn.execute(sa.select(audit_tree)).one_or_none())
        heads = await self._sql.read(lambda conn: conn.execute(sa.select(audit_heads)).all())
        problems: list[str] = []
        roots: dict[int, bytes] = {}
        frontier = Frontier()
        for expected, line in enumerate(lines):
            if line.seq != expected:
                problems.append(f"line {expected} is missing")
                break
            if leaf_hash(line.data) != line.leaf:
                problems.append(f"line {line.seq} was changed after it was written")
            elif not _copies_hold(line):
                problems.append(f"line {line.seq} is filed under another tenant, action or time than it says")
            frontier = frontier.append(leaf_hash(line.data))
            roots[frontier.size] = frontier.root
        for head in heads:
            if roots.get(head.size) != head.root:
                problems.append(f"the head of size {head.size} does not match the lines")
            elif not self._signer.verify(head.size, head.root, head.at, head.signature):
                problems.append(f"the head of size {head.size} is not signed by this workspace's key")
        newest = max((head.size for head in heads), default=0)
        if newest != len(lines):
            problems.append(f"{len(lines)} lines, but the newest signed head covers {newest}")
        if tree is not None and _unpack(tree.size, tree.frontier) != frontier:
            problems.append("the stored tree does not match the lines: what is appended to it will not verify")
        if size is not None and root is not None and roots.get(size, b"").hex() != root.lower():
            problems.append(f"the head you kept (size {size}) is not in this log: it was cut off or rewritten")
        return Verification(not problems, len(lines), frontier.root.hex(), tuple(problems))

    async def forget(self, tenant: TenantId, person: str) -> bool:
        """Make every sealed mention of a person unreadable."""
        return await self._subjects.erase(tenant, person)

    async def close(self) -> None:
        """Commit what is queued."""
        if self._flusher is not None:
            await self._flusher
        await self.flush()


class _Payload(msgspec.Struct, frozen=True):
    """What is hashed. Fields by code point, so that this encoder writes what `core.canonical` would."""

    action: str
    actor: str
    at: str
    details: Mapping[str, str | int | bool]
    end_user: str
    outcome: str
    subject: str
    tenant: str
    trace_id: str
    v: int = 1


_encode = msgspec.json.Encoder(order="sorted").encode


def payload_of(event: AuditEvent, end_user: str) -> bytes:
    """Canonical JSON of one line."""
    return _encode(
        _Payload(
            event.action,
            event.actor,
            event.at.isoformat(),
            event.details,
            end_user,
            event.outcome,
            event.subject,
            event.tenant,
            event.trace_id,
        )
    )


def _line(row: sa.Row[tuple[object, ...]], data: dict[str, object], end_user: str) -> AuditLine:
    details = data["details"]
    assert isinstance(details, dict)
    return AuditLine(
        seq=row.seq,
        at=row.at,
        tenant=TenantId(row.tenant),
        actor=str(data["actor"]),
        end_user=end_user or (ERASED if data["end_user"] else ""),
        action=str(data["action"]),
        subject=str(data["subject"]),
        outcome=str(data["outcome"]),
        details=details,
        trace_id=str(data["trace_id"]),
        leaf=row.leaf.hex(),
    )


def _copies_hold(row: sa.Row[tuple[object, ...]]) -> bool:
    """True when the columns that are searched say what the hashed bytes say."""
    data = json.loads(row.data)
    return (row.tenant, row.action, row.at) == (data["tenant"], data["action"], datetime.fromisoformat(data["at"]))


def _unpack(size: int, packed: bytes) -> Frontier:
    return Frontier(size, tuple(packed[at : at + 32] for at in range(0, len(packed), 32)))
