"""Backup and restore: one portable folder for either database, and the objects beside it.

::

    manifest.json          written last: format, schema revision, and for each table its columns, rows and SHA-256
    tables/<table>.jsonl   one row a line, a JSON list in the order of the manifest's columns
    blobs.jsonl            [tenant, digest, size] of each object
    blobs/<aa>/<hex>       the bytes, once however many tenants hold them

Values that JSON lacks are written by the kind of their column: ``bytes`` as base64, ``time`` as ISO 8601 in UTC,
``date`` and ``decimal`` as text. Because rows are loaded at the revision they were dumped at and migrated afterwards,
an archive stays readable by every later version, and moves between SQLite and PostgreSQL. The search index and spans
are not in it: the first is derived data, the second are immutable files that can be copied as they are.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.canonical import digest_bytes
from interlock.core.clock import now
from interlock.core.errors import Conflict, InvalidInput, Misconfigured
from interlock.core.ids import TenantId
from interlock.stores.blob.base import Blobs
from interlock.stores.sql import Sql

__all__ = ["Manifest", "Progress", "TableEntry", "dump", "load", "verify"]

Progress = Callable[[str, int], None]
"""Called with what is worked on (``table jobs``, ``blobs``) and how many of its rows are done; from any thread."""

_FORMAT = 1
_BATCH = 500
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VERSION_TABLE = "alembic_version"


class TableEntry(msgspec.Struct, frozen=True):
    """One table of an archive."""

    columns: list[tuple[str, str]]
    """Name and kind, in the order of a row's values."""
    rows: int
    sha256: str
    """Hex digest of the table's file."""


class Manifest(msgspec.Struct, frozen=True):
    """What an archive holds. Unknown fields are ignored, so that later formats can add some."""

    format: int
    created_at: datetime
    revision: str
    tables: dict[str, TableEntry]
    blobs: int = 0
    blobs_sha256: str = ""
    """Hex digest of `blobs.jsonl`; the objects carry their own digests."""


async def dump(
    sql: Sql,
    directory: Path,
    progress: Progress | None = None,
    *,
    blobs: Blobs | None = None,
    tenants: Sequence[TenantId] = (),
) -> Manifest:
    """Write everything in `sql`, as of one moment, and the objects of `tenants` into an empty or new `directory`.

    Rows are streamed. Writers go on meanwhile; objects stored after the moment may be in the archive too.

    Raises: InvalidInput: `directory` is not empty; Misconfigured: the database was never migrated, or a column has a
        type without a portable form.
    """
    tell = progress or _quiet
    await asyncio.to_thread(_make_empty, directory)
    revision, tables = await sql.read(lambda connection: _dump_tables(connection, directory, tell))
    count, digest = 0, ""
    if blobs is not None:
        count, digest = await _dump_blobs(blobs, tenants, directory, tell)
    manifest = Manifest(_FORMAT, now(), revision, tables, count, digest)
    await asyncio.to_thread(_write_synced, directory / "manifest.json", msgspec.json.encode(manifest))
    return manifest


def verify(directory: Path) -> Manifest:
    """Read an archive's manifest and check the digest of every member. Reads every byte.

    Raises: InvalidInput: it is no archive, is incomplete, damaged, or written by a later format.
    """
    try:
        manifest = msgspec.json.decode((directory / "manifest.json").read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise InvalidInput(f"{directory.name!r} is no complete archive: it has no manifest.json") from error
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"the manifest of {directory.name!r} cannot be read") from error
    if manifest.format != _FORMAT:
        raise InvalidInput(f"the archive has format {manifest.format}, expected {_FORMAT}", hint="upgrade interlock")
    members = {name: entry.sha256 for name, entry in manifest.tables.items()}
    for name, expected in members.items():
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"the archive names a table {name!r}")
        _check_file(_table_file(directory, name), expected)
    if manifest.blobs_sha256:
        _check_file(directory / "blobs.jsonl", manifest.blobs_sha256)
        for _, digest, _ in _blob_lines(directory):
            _check_file(_blob_file(directory, digest), digest.removeprefix("sha256:"))
    return manifest


async def load(
    sql: Sql,
    directory: Path,
    progress: Progress | None = None,
    *,
    blobs: Blobs | None = None,
    replace: bool = False,
) -> Manifest:
    """Put an archive back, then bring the schema to the newest revision. Nothing else may use the database meanwhile.

    The archive is verified first. All rows arrive in one transaction; what dies on the way can be run again.

    Args:
        sql: empty (never migrated, or migrated and without a row), of either dialect.
        directory: what `dump` wrote.
        progress: see `Progress`.
        blobs: where the archive's objects go; None leaves them out.
        replace: throw away what the database holds.

    Raises:
        Conflict: the database is not empty and `replace` is false.
        InvalidInput: see `verify`. Misconfigured: the archive's revision is unknown to this version.
    """
    tell = progress or _quiet
    manifest = await asyncio.to_thread(verify, directory)
    if not replace and await sql.read(_has_rows):
        raise Conflict("the database is not empty", hint="use a new workspace, or --replace to lose what is there")
    _check_revision(manifest.revision)
    # The tables are made again at the archive's revision, whatever revision the empty ones were at.
    await sql.write(_drop_tables)
    await sql.migrate(manifest.revision)
    await sql.write(lambda connection: _load_tables(connection, directory, manifest, tell))
    await sql.migrate()
    if blobs is not None and manifest.blobs_sha256:
        await _load_blobs(blobs, directory, tell)
    return manifest


def _quiet(_what: str, _done: int) -> None:
    pass


def _make_empty(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise InvalidInput(f"the folder {directory.name!r} is not empty", hint="name a new one")
    (directory / "tables").mkdir()


def _table_file(directory: Path, name: str) -> Path:
    return directory / "tables" / f"{name}.jsonl"


def _blob_file(directory: Path, digest: str) -> Path:
    found = re.fullmatch(r"sha256:([0-9a-f]{64})", digest)
    if found is None:
        raise InvalidInput("the archive names an object by something that is no digest")
    return directory / "blobs" / found[1][:2] / found[1]


def _check_file(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        actual = "missing"
    if actual != expected:
        raise InvalidInput(f"the archive's member {path.name!r} is damaged or missing", hint="use another backup")


def _write_synced(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _reflected(connection: Connection) -> list[sa.Table]:
    """The tables as the database has them, parents first: the code's own may be of another revision."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != _VERSION_TABLE]


def _kind(column: sa.Column[Any]) -> str:  # Any: a column of any type
    for kind, types in _KINDS.items():
        if isinstance(column.type, types):
            return kind
    raise Misconfigured(f"the column {column.table.name}.{column.name} has no portable form ({column.type!r})")


# Any: SQLAlchemy's type classes are generic in the Python type. Order matters: JSON and Boolean before the rest.
_KINDS: dict[str, tuple[type[sa.types.TypeEngine[Any]], ...]] = {
    "json": (sa.JSON,),
    "bytes": (sa.LargeBinary, sa.types.BINARY),
    "time": (sa.DateTime,),
    "date": (sa.Date,),
    "bool": (sa.Boolean,),
    "text": (sa.String, sa.Uuid, sa.types.NullType),
    "int": (sa.Integer,),
    "float": (sa.Float, sa.REAL, sa.Double),
    "decimal": (sa.Numeric,),
}


def _encode(kind: str, value: Any) -> Any:  # Any: column values
    if value is None or kind in {"json", "bool", "int", "float"}:
        return value
    if kind == "bytes":
        return base64.b64encode(value).decode()
    if kind == "time":
        return (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)).isoformat()
    if kind == "date":
        return value.isoformat()
    return str(value)


def _decode(kind: str, value: Any, dialect: str) -> Any:  # Any: column values
    if value is None or kind in {"json", "bool", "int", "float", "text"}:
        return value
    if kind == "bytes":
        return base64.b64decode(value)
    if kind == "time":
        moment = datetime.fromisoformat(value).astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect == "sqlite" else moment
    return date.fromisoformat(value) if kind == "date" else Decimal(value)


def _dump_tables(connection: Connection, directory: Path, tell: Progress) -> tuple[str, dict[str, TableEntry]]:
    from interlock.stores.sql.schema import current_revision

    revision = current_revision(connection)
    if revision is None:
        raise Misconfigured("the database was never migrated: there is nothing to back up")
    return revision, {
        str(table.name): _dump_table(connection, table, directory, tell) for table in _reflected(connection)
    }


def _dump_table(connection: Connection, table: sa.Table, directory: Path, tell: Progress) -> TableEntry:
    # str(): reflection gives a subclass that is not written as text.
    columns = [(str(column.name), _kind(column)) for column in table.columns]
    query = sa.select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_BATCH)
    digest, rows = hashlib.sha256(), 0
    with _table_file(directory, table.name).open("wb") as file:
        for batch in connection.execute(query).partitions():
            for row in batch:
                values = [_encode(kind, value) for (_, kind), value in zip(columns, row, strict=True)]
                line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
                digest.update(line)
                file.write(line)
            rows += len(batch)
            tell(f"table {table.name}", rows)
        file.flush()
        os.fsync(file.fileno())
    return TableEntry(columns, rows, digest.hexdigest())


def _has_rows(connection: Connection) -> bool:
    return any(
        connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None
        for table in _reflected(connection)
    )


def _check_revision(revision: str) -> None:
    from interlock.stores.sql.schema import known_revisions

    if revision not in known_revisions():
        raise Misconfigured(
            f"the archive is of the schema revision {revision!r}, which this version does not know",
            hint="restore it with the version that wrote it, or a later one",
        )


def _drop_tables(connection: Connection) -> None:
    metadata = sa.MetaData()
    metadata.reflect(connection)
    metadata.drop_all(connection)


def _load_tables(connection: Connection, directory: Path, manifest: Manifest, tell: Progress) -> None:
    tables = {table.name: table for table in _reflected(connection)}
    unknown = set(manifest.tables) - set(tables)
    if unknown:
        raise Misconfigured(f"the archive has a table {min(unknown)!r} that its revision does not have")
    # A migration may have put rows of its own in; the archive has them as they were when it was made.
    for table in reversed(list(tables.values())):
        connection.execute(sa.delete(table))
    for name, table in tables.items():
        if name in manifest.tables:
            _load_table(connection, table, directory, manifest.tables[name], tell)


def _load_table(connection: Connection, table: sa.Table, directory: Path, entry: TableEntry, tell: Progress) -> None:
    for column in table.columns:
        if isinstance(column.type, sa.JSON):
            # None is SQL's NULL where the column takes one, else JSON's null.
            column.type.none_as_null = bool(column.nullable)
    dialect, done = connection.dialect.name, 0
    with _table_file(directory, table.name).open("rb") as file:
        rows = (
            {
                name: _decode(kind, value, dialect)
                for (name, kind), value in zip(entry.columns, json.loads(line), strict=True)
            }
            for line in file
        )
        for batch in _batches(rows):
            connection.execute(sa.insert(table), batch)
            done += len(batch)
            tell(f"table {table.name}", done)
    if done != entry.rows:
        raise InvalidInput(f"the table {table.name!r} has {done} rows in the archive, expected {entry.rows}")
    if dialect == "postgresql":
        _advance_sequences(connection, table)


# Any: rows of unlike columns.
def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _advance_sequences(connection: Connection, table: sa.Table) -> None:
    """Let counters go on after the highest loaded value."""
    quoted = connection.dialect.identifier_preparer.format_table(table)
    for column in table.primary_key.columns:
        if isinstance(column.type, sa.Integer):
            find = sa.select(sa.func.pg_get_serial_sequence(quoted, column.name))
            sequence = connection.execute(find).scalar()
            if sequence is not None:
                highest = sa.select(sa.func.coalesce(sa.func.max(column), 0) + 1).scalar_subquery()
                connection.execute(sa.select(sa.func.setval(sa.cast(sequence, sa.Text), highest, False)))


async def _dump_blobs(blobs: Blobs, tenants: Sequence[TenantId], directory: Path, tell: Progress) -> tuple[int, str]:
    lines: list[bytes] = []
    for tenant in tenants:
        async for digest in blobs.list(tenant):
            data = await blobs.get(tenant, digest)
            await asyncio.to_thread(_write_blob, _blob_file(directory, digest), data)
            lines.append(msgspec.json.encode((tenant, digest, len(data))) + b"\n")
            tell("blobs", len(lines))
    listing = b"".join(lines)
    await asyncio.to_thread(_write_synced, directory / "blobs.jsonl", listing)
    return len(lines), hashlib.sha256(listing).hexdigest()


def _write_blob(path: Path, data: bytes) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(path, data)


def _blob_lines(directory: Path) -> Iterator[tuple[str, str, int]]:
    with (directory / "blobs.jsonl").open("rb") as file:
        for line in file:
            yield msgspec.json.decode(line, type=tuple[str, str, int])


async def _load_blobs(blobs: Blobs, directory: Path, tell: Progress) -> None:
    for done, (tenant, digest, _) in enumerate(await asyncio.to_thread(lambda: list(_blob_lines(directory))), 1):
        data = await asyncio.to_thread(_blob_file(directory, digest).read_bytes)
        if digest_bytes(data) != digest or await blobs.put(TenantId(tenant), data) != digest:
            raise InvalidInput(f"the archive's object {digest!r} is damaged")
        tell("blobs", done)
