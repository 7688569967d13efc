"""What callers asked the gateway to keep, sealed: responses, files, batches. Each is its owner's alone.

Conversations and responses that are made in the background stand beside, in the same tables.

The owner is the end user behind the call; without one it is the calling key. Nobody else's id, in the same tenant or
another, can be told from one that does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import anyio.to_thread
import sqlalchemy as sa

from interlock.core.clock import now
from interlock.core.context import Context, EndUser, Principal, Role
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import KeyId, PrincipalId, TenantId, TraceId, new_id, ulid
from interlock.core.ports import Rights
from interlock.core.sealing import Sealer
from interlock.gateway.results import Results, named_in, withheld
from interlock.gateway.store import (
    batch_asks,
    batch_lines,
    batches,
    conversation_items,
    conversations,
    files,
    response_items,
    responses,
)
from interlock.stores.blob.base import Blobs
from interlock.stores.sql.base import Sql

__all__ = [
    "Batch",
    "Kept",
    "KeptFile",
    "KeptItem",
    "KeptResponse",
    "Line",
    "context_from",
    "documents_of",
    "identity_of",
    "index_items",
    "run",
]

# Any in this module: JSON and rows of unlike columns.
_OWNED = (responses, conversations, files, batches)
_PAGE = 100
"""Stored responses that are unsealed at once."""
_RESULTS = "batch_output"
_OPEN = ("validating", "in_progress", "finalizing", "cancelling")


class KeptResponse(NamedTuple):
    """A stored response: all its input, what came before included, and the answer."""

    items: list[dict[str, Any]]
    response: dict[str, Any]
    documents: Sequence[str] = ()
    """Whose text it was made from, or what it continues was. Who may not read one of them any more does not get it."""


class KeptItem(NamedTuple):
    """An item of a conversation or of a stored response."""

    item: dict[str, Any]
    documents: Sequence[str] = ()
    """As of `KeptResponse`."""


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A stored file, without its content."""

    id: str
    name: str
    purpose: str
    size_bytes: int
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as stored."""

    id: str
    tenant: TenantId
    style: str
    """`openai` or `anthropic`: whose shapes its lines and results have."""
    endpoint: str
    window: str
    state: str
    input_file: str
    output_file: str | None
    error_file: str | None
    job: str
    total: int
    completed: int
    failed: int
    metadata: Mapping[str, str]
    times: Mapping[str, int]
    errors: Sequence[Mapping[str, Any]]
    created_at: datetime
    ends_at: datetime
    lane: str
    """What was asked for: `auto`, `ordinary`, `half-price`."""
    lanes: Mapping[str, Any] | None
    """Which lines were handed to providers' batch APIs and why the others were not; None until that is decided."""
    identity: str = field(repr=False)

    @property
    def is_open(self) -> bool:
        """True until it has ended in one way or another."""
        return self.state in _OPEN


class Line(NamedTuple):
    """The stored result of one line of a batch."""

    number: int
    ok: bool
    body: dict[str, Any]
    documents: Sequence[str] = ()
    """As of `KeptResponse`."""


class _Opened(NamedTuple):
    text: str
    documents: Sequence[Sequence[str]] | None


class Kept:
    """The store of all tenants.

    Args:
        rights: what callers may read.
        response_days: life of a stored response.
        file_days: life of files and batches.
    """

    def __init__(
        self, sql: Sql, blobs: Blobs, sealer: Sealer, *, rights: Rights, response_days: float, file_days: float
    ) -> None:
        self.sql = sql
        self._blobs = blobs
        self._sealer = sealer
        self.rights = rights
        self.response_life = timedelta(days=response_days)
        self._file_life = timedelta(days=file_days)

    def owner(self, ctx: Context) -> str:
        """Pseudonym of whom the kept things of this caller belong to."""
        who = f"user\0{ctx.end_user.id}" if ctx.end_user else f"principal\0{ctx.principal.id}"
        return self._sealer.pseudonym(f"{ctx.tenant}\0{who}", "kept")

    async def seal(self, value: object, purpose: str) -> str:
        """`value` as JSON, sealed for one purpose."""
        return await anyio.to_thread.run_sync(lambda: self._sealer.seal(json.dumps(value), purpose))

    async def unseal(self, sealed: str, purpose: str) -> Any:
        """What was sealed for this purpose."""
        return await anyio.to_thread.run_sync(lambda: json.loads(self._sealer.open(sealed, purpose)))

    # --- responses ---------------------------------------------------------------------------------------------------

    async def keep_response(self, ctx: Context, kept: KeptResponse) -> None:
        """Store a finished response under its own id."""
        identity = str(kept.response["id"])
        sealed = await self.seal(kept._asdict(), f"response:{ctx.tenant}:{identity}")
        at = now()
        row = {
            "tenant": ctx.tenant,
            "id": identity,
            "owner": self.owner(ctx),
            "principal": ctx.principal.id,
            "created_at": at,
            "expires_at": at + self.response_life,
            "sealed": sealed,
        }

        def write(conn: sa.Connection) -> None:
            conn.execute(sa.insert(responses).values(row))
            index_items(conn, row, kept)

        await self.sql.write(write)

    async def response(self, ctx: Context, identity: str, *, param: str | None = None) -> KeptResponse:
        """A stored response of this owner, who may still read every document it was made from. Raises: NotFound."""
        found = await self.stored_response(ctx, identity, param=param)
        if not await self.rights.may_read(ctx, found.documents):
            raise _no_response(identity, param)
        return found

    async def stored_response(self, ctx: Context, identity: str, *, param: str | None = None) -> KeptResponse:
        """The same whatever its documents: for a worker that finishes what it began. Raises: NotFound."""
        query = sa.select(responses.c.sealed, responses.c.state).where(self.mine(responses, ctx, identity))
        row = await self.sql.read(lambda conn: conn.execute(query).one_or_none())
        if row is None:
            raise _no_response(identity, param)
        said = await self.unseal(row.sealed, f"response:{ctx.tenant}:{identity}")
        document = said["response"] if row.state == "completed" else {**said["response"], "status": row.state}
        return KeptResponse(said["items"], document, documents_of(said))

    async def items(self, ctx: Context, identities: Collection[str]) -> dict[str, KeptItem]:
        """Items by their ids, from stored responses of this owner; those that are not there are left out, and those
        that rest on what the owner may not read.
        """
        query = sa.select(response_items.c.id, response_items.c.response).where(
            response_items.c.tenant == ctx.tenant,
            response_items.c.owner == self.owner(ctx),
            response_items.c.id.in_(list(identities)),
        )
        places = await self.sql.read(lambda conn: conn.execute(query).all())
        found: dict[str, KeptItem] = {}
        for response in {row.response for row in places}:
            try:
                kept = await self.response(ctx, response)
            except NotFound:
                # Past its age, or made from what is not this caller's to read any more.
                continue
            wanted = {row.id for row in places if row.response == response}
            found |= {
                item["id"]: KeptItem(item, kept.documents)
                for item in (*kept.items, *kept.response["output"])
                if item["id"] in wanted
            }
        return found

    async def documents_of_items(self, ctx: Context, identities: Collection[str]) -> dict[str, Sequence[str]]:
        """What items rest on that a stored response of this owner brought; others are left out."""
        query = sa.select(response_items.c.id, response_items.c.response).where(
            response_items.c.tenant == ctx.tenant,
            response_items.c.owner == self.owner(ctx),
            response_items.c.id.in_(list(identities)),
        )
        places = await self.sql.read(lambda conn: conn.execute(query).all())
        found: dict[str, Sequence[str]] = {}
        for response in {row.response for row in places}:
            with suppress(NotFound):
                documents = (await self.stored_response(ctx, response)).documents
                found |= {row.id: documents for row in places if row.response == response}
        return found

    async def delete_response(self, ctx: Context, identity: str) -> None:
        """Remove one. Raises: NotFound."""
        which = self.mine(responses, ctx, identity)
        gone = await self.sql.write(lambda conn: _remove_responses(conn, which))
        if not gone:
            raise _no_response(identity, None)

    # --- files -------------------------------------------------------------------------------------------------------

    async def keep_file(
        self,
        ctx: Context,
        *,
        name: str,
        purpose: str,
        data: bytes,
        documents: Sequence[Sequence[str]] | None = None,
    ) -> KeptFile:
        """Store a file of text.

        Args:
            documents: of results, what each row was made from.

        Raises: StorageFull, InvalidInput: it is not UTF-8.
        """
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput("the file is not UTF-8 text", param="file") from error
        identity = f"file-{ulid()}"
        seal = f"file:{ctx.tenant}:{identity}"
        digest = await self._put_file(ctx.tenant, identity, text, documents)
        at = now()
        kept = KeptFile(identity, name, purpose, len(data), at, at + self._file_life)
        row = {
            "tenant": ctx.tenant,
            "id": identity,
            "owner": self.owner(ctx),
            "principal": ctx.principal.id,
            "purpose": purpose,
            "size_bytes": kept.size_bytes,
            "created_at": at,
            "expires_at": kept.expires_at,
            "name": await self.seal(name, f"{seal}:name"),
            "digest": digest,
        }
        await self.sql.write(lambda conn: run(conn, sa.insert(files).values(row)))
        return kept

    async def file(self, ctx: Context, identity: str, *, param: str | None = None) -> KeptFile:
        """A file of this owner. Raises: NotFound."""
        return await self._file(ctx, await self._file_row(ctx, identity, param))

    async def file_content(self, ctx: Context, identity: str, *, param: str | None = None) -> bytes:
        """Its content. Of results those alone that were made from what the owner may still read; for each of the
        others stands that it is withheld. Raises: NotFound.
        """
        row = await self._file_row(ctx, identity, param)
        if row["purpose"] != _RESULTS:
            return (await self._opened(row)).text.encode()
        results = await self._results(row)
        hidden = await self._unreadable(ctx, sorted(results.made_from))
        return (results.without(hidden) if hidden else results).text.encode()

    async def _unreadable(self, ctx: Context, documents: Sequence[str]) -> set[str]:
        """Those that the caller may not read. Halves are asked for: of many documents few have changed."""
        if not documents or await self.rights.may_read(ctx, documents):
            return set()
        if len(documents) == 1:
            return set(documents)
        half = len(documents) // 2
        return await self._unreadable(ctx, documents[:half]) | await self._unreadable(ctx, documents[half:])

    async def files(self, ctx: Context, *, purpose: str | None, after: str | None, limit: int) -> list[KeptFile]:
        """Files of this owner, newest first."""
        where = [files.c.tenant == ctx.tenant, files.c.owner == self.owner(ctx), files.c.expires_at > now()]
        if purpose is not None:
            where.append(files.c.purpose == purpose)
        if after is not None:
            where.append(files.c.id < after)
        query = sa.select(files).where(*where).order_by(files.c.id.desc()).limit(limit)
        rows = await self.sql.read(lambda conn: conn.execute(query).mappings().all())
        return [await self._file(ctx, row) for row in rows]

    async def delete_file(self, ctx: Context, identity: str) -> None:
        """Remove one. Raises: NotFound."""
        row = await self._file_row(ctx, identity, None)
        await self.sql.write(lambda conn: run(conn, sa.delete(files).where(self.mine(files, ctx, identity))))
        await self._blobs.delete(ctx.tenant, row["digest"])

    async def _put_file(
        self, tenant: TenantId, identity: str, text: str, documents: Sequence[Sequence[str]] | None
    ) -> str:
        seal = f"file:{tenant}:{identity}"

        def sealed() -> bytes:
            parts = [self._sealer.seal(text, seal)]
            if documents is not None:
                parts.append(self._sealer.seal(json.dumps([sorted(each) for each in documents]), f"{seal}:documents"))
            return "\n".join(parts).encode()

        return await self._blobs.put(tenant, await anyio.to_thread.run_sync(sealed))

    async def _opened(self, row: Mapping[Any, Any]) -> _Opened:
        sealed = await self._blobs.get(TenantId(row["tenant"]), row["digest"])
        seal = f"file:{row['tenant']}:{row['id']}"

        def opened() -> _Opened:
            text, *more = sealed.decode().split("\n")
            documents = json.loads(self._sealer.open(more[0], f"{seal}:documents")) if more else None
            return _Opened(self._sealer.open(text, seal), documents)

        return await anyio.to_thread.run_sync(opened)

    async def _results(self, row: Mapping[Any, Any]) -> Results:
        found = await self._opened(row)
        return await anyio.to_thread.run_sync(lambda: Results.of(found.text, found.documents))

    async def _file_row(self, ctx: Context, identity: str, param: str | None) -> Mapping[Any, Any]:
        query = sa.select(files).where(self.mine(files, ctx, identity))
        row = await self.sql.read(lambda conn: conn.execute(query).mappings().one_or_none())
        if row is None:
            raise NotFound(f"no file {identity[:64]!r}", param=param, code="file_not_found")
        return row

    async def _file(self, ctx: Context, row: Mapping[Any, Any]) -> KeptFile:
        name = await self.unseal(row["name"], f"file:{ctx.tenant}:{row['id']}:name")
        return KeptFile(row["id"], name, row["purpose"], row["size_bytes"], row["created_at"], row["expires_at"])

    # --- batches -----------------------------------------------------------------------------------------------------

    async def keep_batch(
        self,
        ctx: Context,
        *,
        style: str,
        endpoint: str,
        input_file: str,
        window: str,
        window_s: float,
        metadata: Mapping[str, str],
        home: TenantId,
        lane: str = "auto",
        total: int = 0,
    ) -> Batch:
        """Store a new batch, not yet given to a worker of the workspace `home`."""
        identity = new_id("batch") if style == "openai" else f"msgbatch_{ulid()}"
        at = now()
        row: dict[str, Any] = {
            "tenant": ctx.tenant,
            "id": identity,
            "owner": self.owner(ctx),
            "principal": ctx.principal.id,
            "identity": await self.seal(identity_of(ctx), f"batch:{ctx.tenant}:{identity}"),
            "style": style,
            "endpoint": endpoint,
            "window": window,
            "state": "validating",
            "input_file": input_file,
            "output_file": None,
            "error_file": None,
            "job": f"@{home}",
            "total": total,
            "completed": 0,
            "failed": 0,
            "metadata": dict(metadata),
            "times": {},
            "errors": [],
            "created_at": at,
            "ends_at": at + timedelta(seconds=window_s),
            "expires_at": at + self._file_life,
            "lane": lane,
            "lanes": None,
        }
        await self.sql.write(lambda conn: run(conn, sa.insert(batches).values(row)))
        return _batch(row)

    async def batch(self, ctx: Context, identity: str) -> Batch:
        """A batch of this owner. Raises: NotFound."""
        query = sa.select(batches).where(self.mine(batches, ctx, identity))
        row = await self.sql.read(lambda conn: conn.execute(query).mappings().one_or_none())
        if row is None:
            raise NotFound(f"no batch {identity[:64]!r}", code="batch_not_found")
        return _batch(row)

    async def batch_of_job(self, tenant: TenantId, identity: str) -> Batch:
        """A batch, whoever owns it: for the worker alone. Raises: NotFound."""
        query = sa.select(batches).where(batches.c.tenant == tenant, batches.c.id == identity)
        row = await self.sql.read(lambda conn: conn.execute(query).mappings().one_or_none())
        if row is None:
            raise NotFound(f"no batch {identity!r}", code="batch_not_found")
        return _batch(row)

    async def context_of(self, batch: Batch, base: Context) -> Context:
        """The creator's context, with the sink of `base`."""
        said = await self.unseal(batch.identity, f"batch:{batch.tenant}:{batch.id}")
        return context_from(said, batch.tenant, base)

    async def batches(self, ctx: Context, *, style: str, after: str | None, limit: int) -> list[Batch]:
        """Batches of this owner, newest first."""
        where = [batches.c.tenant == ctx.tenant, batches.c.owner == self.owner(ctx), batches.c.style == style]
        where.append(batches.c.expires_at > now())
        if after is not None:
            where.append(batches.c.id < after)
        query = sa.select(batches).where(*where).order_by(batches.c.id.desc()).limit(limit)
        rows = await self.sql.read(lambda conn: conn.execute(query).mappings().all())
        return [_batch(row) for row in rows]

    # Any: columns of unlike types.
    async def update_batch(self, batch: Batch, *, only_in: Sequence[str] = (), **changes: Any) -> Batch:
        """Change a batch, only while it is in one of the states `only_in` when they are named; give it as it is now."""
        mine = [batches.c.tenant == batch.tenant, batches.c.id == batch.id]
        guard = [batches.c.state.in_(only_in)] if only_in else []

        def write(conn: sa.Connection) -> Mapping[Any, Any]:
            conn.execute(sa.update(batches).where(*mine, *guard).values(changes))
            return conn.execute(sa.select(batches).where(*mine)).mappings().one()

        return _batch(await self.sql.write(write))

    async def mark_batch(self, batch: Batch, state: str, *, only_in: Sequence[str] = ()) -> Batch:
        """Move to `state` and note when."""
        times = {**batch.times, f"{state}_at": int(now().timestamp())}
        return await self.update_batch(batch, only_in=only_in, state=state, times=times)

    async def keep_line(
        self, batch: Batch, line: Line, *, also: Callable[[sa.Connection], object] | None = None
    ) -> None:
        """Store a line's result and count it. A line that has one already stays as it is.

        Args:
            also: done in the same transaction, whether there was a result already or not.

        Raises: NotFound: the batch was removed meanwhile.
        """
        said = {"body": line.body, "documents": sorted(line.documents)}
        sealed = await self.seal(said, f"line:{batch.tenant}:{batch.id}:{line.number}")
        mine = [
            batch_lines.c.tenant == batch.tenant,
            batch_lines.c.batch == batch.id,
            batch_lines.c.number == line.number,
        ]
        row = {"tenant": batch.tenant, "batch": batch.id, "number": line.number, "ok": line.ok, "sealed": sealed}
        counter = batches.c.completed if line.ok else batches.c.failed

        def write(conn: sa.Connection) -> None:
            if also is not None:
                also(conn)
            if conn.execute(sa.select(batch_lines.c.number).where(*mine)).first() is not None:
                return
            conn.execute(sa.insert(batch_lines).values(row))
            whose = sa.update(batches).where(batches.c.tenant == batch.tenant, batches.c.id == batch.id)
            if not run(conn, whose.values({counter: counter + 1})):
                raise NotFound(f"no batch {batch.id!r}", code="batch_not_found")

        await self.sql.write(write)

    async def note_ask(self, batch: Batch, number: int, trace: TraceId) -> None:
        """Write down that a line is about to be sent to a model."""
        row = {"tenant": batch.tenant, "batch": batch.id, "number": number, "trace_id": trace}
        await self.sql.write(lambda conn: run(conn, sa.insert(batch_asks).values(row)))

    async def drop_ask(self, batch: Batch, number: int, trace: TraceId) -> None:
        """Forget a time that a line was sent: its end is known."""
        mine = [batch_asks.c.tenant == batch.tenant, batch_asks.c.batch == batch.id, batch_asks.c.number == number]
        gone = sa.delete(batch_asks).where(*mine, batch_asks.c.trace_id == trace)
        await self.sql.write(lambda conn: run(conn, gone))

    async def asks(self, batch: Batch) -> dict[int, list[TraceId]]:
        """Traces of the times that lines were sent, by line; those of lines that have a result as well."""
        query = sa.select(batch_asks.c.number, batch_asks.c.trace_id).where(
            batch_asks.c.tenant == batch.tenant, batch_asks.c.batch == batch.id
        )
        found: dict[int, list[TraceId]] = {}
        for row in await self.sql.read(lambda conn: conn.execute(query).all()):
            found.setdefault(row.number, []).append(TraceId(row.trace_id))
        return found

    async def finished_lines(self, batch: Batch) -> set[int]:
        """Numbers of the lines that have a result."""
        query = sa.select(batch_lines.c.number).where(
            batch_lines.c.tenant == batch.tenant, batch_lines.c.batch == batch.id
        )
        return set(await self.sql.read(lambda conn: conn.execute(query).scalars().all()))

    async def lines(self, batch: Batch) -> list[Line]:
        """All results, in the order of the input."""
        query = (
            sa.select(batch_lines)
            .where(batch_lines.c.tenant == batch.tenant, batch_lines.c.batch == batch.id)
            .order_by(batch_lines.c.number)
        )
        rows = await self.sql.read(lambda conn: conn.execute(query).mappings().all())
        return [await self._line(row) for row in rows]

    async def _line(self, row: Mapping[Any, Any]) -> Line:
        said = await self.unseal(row["sealed"], f"line:{row['tenant']}:{row['batch']}:{row['number']}")
        if "body" not in said:
            # Releases before this one kept the body alone.
            return Line(row["number"], row["ok"], said, sorted(named_in(said)))
        return Line(row["number"], row["ok"], said["body"], said["documents"])

    async def drop_lines(self, batch: Batch) -> None:
        """Remove the results once they are in the batch's files."""

        def write(conn: sa.Connection) -> None:
            for table in (batch_lines, batch_asks):
                conn.execute(sa.delete(table).where(table.c.tenant == batch.tenant, table.c.batch == batch.id))

        await self.sql.write(write)

    async def delete_batch(self, ctx: Context, batch: Batch) -> None:
        """Remove a batch and the files that were made for it; its owner's own input file stays."""
        made = [batch.output_file, batch.error_file, batch.input_file if batch.style == "anthropic" else None]
        gone = self.mine(batches, ctx, batch.id)
        await self.drop_lines(batch)
        await self.sql.write(lambda conn: run(conn, sa.delete(batches).where(gone)))
        for file in made:
            if file is not None:
                # Its owner may have deleted it before.
                with suppress(NotFound):
                    await self.delete_file(ctx, file)

    async def unqueued(self, home: TenantId) -> list[Batch]:
        """Batches of a workspace that were stored and never given to a worker: the process died between the two."""
        early = now() - timedelta(seconds=30)
        query = sa.select(batches).where(
            batches.c.state == "validating", batches.c.job == f"@{home}", batches.c.created_at < early
        )
        rows = await self.sql.read(lambda conn: conn.execute(query).mappings().all())
        return [_batch(row) for row in rows]

    # --- endings -----------------------------------------------------------------------------------------------------

    async def forget(self, tenant: TenantId, person: str) -> int:
        """Remove everything kept for an end user; gives the number of rows."""
        owner = self._sealer.pseudonym(f"{tenant}\0user\0{person}", "kept")
        return await self._remove(
            {table: sa.and_(table.c.tenant == tenant, table.c.owner == owner) for table in _OWNED}
        )

    async def forget_all(self, tenant: TenantId) -> int:
        """Remove everything kept for a tenant; gives the number of rows."""
        return await self._remove({table: table.c.tenant == tenant for table in _OWNED})

    async def forget_mentions(self, tenant: TenantId, names: Collection[str]) -> int:
        """Remove stored responses that name one of these ids, and what conversations have of them; gives how many.

        Reads everything the tenant keeps, a page at a time: for erasures, which are rare.
        """
        wanted = [json.dumps(name) for name in sorted(names)]
        gone, after = 0, ""
        while True:
            query = sa.select(responses.c.id, responses.c.sealed).where(
                responses.c.tenant == tenant, responses.c.id > after
            )
            rows = await self.sql.read(
                lambda conn, query=query: conn.execute(query.order_by(responses.c.id).limit(_PAGE)).all()  # type: ignore[misc]  # a bound default hides the lambda's type
            )
            if not rows:
                return gone
            after = rows[-1].id
            for row in rows:
                said = await self.unseal(row.sealed, f"response:{tenant}:{row.id}")
                text = json.dumps(said)
                if any(name in text for name in wanted):
                    items = [str(item.get("id", "")) for item in said["response"].get("output", ())]
                    gone += await self._forget_response(tenant, row.id, items)

    async def forget_results(self, tenant: TenantId, documents: Collection[str], *, count_only: bool = False) -> int:
        """Take the results of batches that were made from one of these documents out of the tenant's files, and out
        of batches under way; a word stands in their places. Gives how many there were.

        Reads all results that the tenant keeps: for erasures, which are rare.
        """
        mine = sa.and_(files.c.tenant == tenant, files.c.purpose == _RESULTS)
        gone = 0
        for row in await self.sql.read(lambda conn: conn.execute(sa.select(files).where(mine)).mappings().all()):
            try:
                results = await self._results(row)
            except NotFound:
                # It was deleted meanwhile.
                continue
            count = results.count_of(documents)
            gone += count
            if count and not count_only:
                await self._replace(row, results.without(documents))
        mine = batch_lines.c.tenant == tenant
        for row in await self.sql.read(lambda conn: conn.execute(sa.select(batch_lines).where(mine)).mappings().all()):
            line = await self._line(row)
            if set(documents).isdisjoint(line.documents):
                continue
            gone += 1
            if not count_only:
                await self._withhold(row, line)
        return gone

    async def _replace(self, row: Mapping[Any, Any], results: Results) -> None:
        tenant = TenantId(row["tenant"])
        digest = await self._put_file(tenant, row["id"], results.text, results.documents)
        which = sa.and_(files.c.tenant == tenant, files.c.id == row["id"], files.c.digest == row["digest"])
        size = len(results.text.encode())
        written = await self.sql.write(
            lambda conn: run(conn, sa.update(files).where(which).values(digest=digest, size_bytes=size))
        )
        await self._blobs.delete(tenant, row["digest"] if written else digest)

    async def _withhold(self, row: Mapping[Any, Any], line: Line) -> None:
        said = {"body": withheld(line.body), "documents": []}
        sealed = await self.seal(said, f"line:{row['tenant']}:{row['batch']}:{row['number']}")
        which = sa.and_(*(batch_lines.c[name] == row[name] for name in ("tenant", "batch", "number")))
        await self.sql.write(lambda conn: run(conn, sa.update(batch_lines).where(which).values(sealed=sealed)))

    async def _forget_response(self, tenant: TenantId, identity: str, items: Sequence[str]) -> int:
        def write(conn: sa.Connection) -> int:
            told = (conversation_items.c.tenant == tenant, conversation_items.c.id.in_(items))
            conn.execute(sa.delete(conversation_items).where(*told))
            return _remove_responses(conn, sa.and_(responses.c.tenant == tenant, responses.c.id == identity))

        return await self.sql.write(write)

    async def tidy(self) -> int:
        """Remove what is past its age; gives the number of rows."""
        at = now()
        old: dict[sa.Table, sa.ColumnElement[bool]] = {
            responses: responses.c.expires_at <= at,
            conversations: conversations.c.expires_at <= at,
            files: files.c.expires_at <= at,
            batches: sa.and_(batches.c.expires_at <= at, batches.c.state.not_in(_OPEN)),
        }
        return await self._remove(old)

    async def _remove(self, where: Mapping[sa.Table, sa.ColumnElement[bool]]) -> int:
        def write(conn: sa.Connection) -> tuple[int, list[tuple[str, str]]]:
            blobs = [(row.tenant, row.digest) for row in conn.execute(sa.select(files).where(where[files]))]
            gone = [(row.tenant, row.id) for row in conn.execute(sa.select(batches).where(where[batches]))]
            for tenant, batch in gone:
                for table in (batch_lines, batch_asks):
                    conn.execute(sa.delete(table).where(table.c.tenant == tenant, table.c.batch == batch))
            talks = sa.select(conversations.c.tenant, conversations.c.id).where(where[conversations])
            held = sa.tuple_(conversation_items.c.tenant, conversation_items.c.conversation)
            conn.execute(sa.delete(conversation_items).where(held.in_(talks)))
            count = _remove_responses(conn, where[responses])
            others = {table: which for table, which in where.items() if table is not responses}
            return count + sum(run(conn, sa.delete(table).where(which)) for table, which in others.items()), blobs

        count, blobs = await self.sql.write(write)
        for tenant, digest in blobs:
            await self._blobs.delete(TenantId(tenant), digest)
        return count

    def mine(self, table: sa.Table, ctx: Context, identity: str) -> sa.ColumnElement[bool]:
        """That a row is this one, of this owner, and within its age."""
        return sa.and_(
            table.c.tenant == ctx.tenant,
            table.c.id == identity[:64],
            table.c.owner == self.owner(ctx),
            table.c.expires_at > now(),
        )


def documents_of(said: Mapping[str, Any]) -> Sequence[str]:
    """The documents that a stored response rests on, from what was sealed.

    Releases before this one kept no list: there it is every document that the response names.
    """
    kept = said.get("documents")
    return tuple(kept) if kept is not None else tuple(sorted(named_in(said)))


def _no_response(identity: str, param: str | None) -> NotFound:
    return NotFound(f"no response {identity[:64]!r}", param=param, code="response_not_found")


def index_items(conn: sa.Connection, row: Mapping[str, Any], kept: KeptResponse) -> None:
    """Note which items a stored response brought; a reference finds them by their ids."""
    found = {str(item["id"]) for item in (*kept.items, *kept.response["output"])}
    mine = (response_items.c.tenant == row["tenant"], response_items.c.owner == row["owner"])
    known = set(conn.execute(sa.select(response_items.c.id).where(*mine, response_items.c.id.in_(found))).scalars())
    # An item that an earlier response brought stays there: a long conversation would be noted again with each turn.
    new = [{"tenant": row["tenant"], "owner": row["owner"], "id": i, "response": row["id"]} for i in found - known]
    if new:
        conn.execute(sa.insert(response_items), new)


def _remove_responses(conn: sa.Connection, which: sa.ColumnElement[bool]) -> int:
    held = sa.tuple_(response_items.c.tenant, response_items.c.response)
    gone = sa.select(responses.c.tenant, responses.c.id).where(which)
    conn.execute(sa.delete(response_items).where(held.in_(gone)))
    return run(conn, sa.delete(responses).where(which))


def run(conn: sa.Connection, statement: Any) -> int:
    """Rows that a statement changed."""
    return int(conn.execute(statement).rowcount)


def _batch(row: Mapping[Any, Any]) -> Batch:
    names = Batch.__dataclass_fields__
    return Batch(**{**{name: row[name] for name in names}, "tenant": TenantId(row["tenant"])})


def identity_of(ctx: Context) -> dict[str, Any]:
    """Who is calling and for whom, to be called for later by a worker."""
    user = ctx.end_user
    return {
        "principal": ctx.principal.id,
        "kind": ctx.principal.kind,
        "roles": sorted(ctx.principal.roles),
        "key": ctx.principal.key_id,
        "user": None if user is None else {"id": user.id, "groups": sorted(user.groups), "purpose": user.purpose},
        "conversation": ctx.conversation,
    }


def context_from(said: Mapping[str, Any], tenant: TenantId, base: Context) -> Context:
    """The context of what `identity_of` gave, with the sink of `base`."""
    key = KeyId(said["key"]) if said["key"] else None
    principal = Principal(
        PrincipalId(said["principal"]), said["kind"], frozenset(Role(role) for role in said["roles"]), key
    )
    ctx = Context(tenant, principal, conversation=said["conversation"], sink=base.sink)
    user = said["user"]
    if user is None:
        return ctx
    return ctx.on_behalf_of(EndUser(user["id"], frozenset(user["groups"]), user["purpose"]))
