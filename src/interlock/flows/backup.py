"""Back up and restore a whole installation as one archive file.

The archive holds the database, the objects, the index files of the embedded back end, the spans, and the two key files
without which sealed values and signed heads are worth nothing. It is as secret as the installation itself.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import anyio.to_thread
import sqlalchemy as sa

from interlock.core.errors import Conflict, InvalidInput, NotFound
from interlock.core.ids import TenantId
from interlock.stores import backup
from interlock.stores.blob.base import Blobs
from interlock.stores.sql import Sql

__all__ = ["BackupReport", "Site", "back_up", "restore"]

KEY_FILES = ("master.key", "audit.key")
Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Site:
    """What is backed up or restored into."""

    sql: Sql
    blobs: Blobs
    data: Path
    tenants: tuple[TenantId, ...]
    embedded_index: bool


class BackupReport(NamedTuple):
    """What an archive holds, or what was restored."""

    revision: str
    rows: int
    objects: int
    index_files: int
    size_bytes: int
    rebuild_index: bool
    """True when the next ingest embeds everything again, because the archive has no index this site can use."""


async def back_up(site: Site, target: Path, progress: Progress) -> BackupReport:
    """Write everything, as of one moment for the database, into the file `target` (mode 0600).

    Raises: Conflict: the file exists. StorageFull.
    """
    if target.exists():
        raise Conflict(f"{str(target)!r} exists", param="file", hint="choose another name, or remove it first")
    with tempfile.TemporaryDirectory(prefix=".interlock-backup-", dir=target.resolve().parent) as folder:
        root = Path(folder)
        manifest = await backup.dump(site.sql, root / "store", progress, blobs=site.blobs, tenants=site.tenants)
        (root / "site.json").write_text(json.dumps({"tenants": list(site.tenants)}), "utf-8")
        progress("index", 0)
        copied = await anyio.to_thread.run_sync(_copy_files, site.data, root, site.embedded_index)
        progress("archive", 0)
        await anyio.to_thread.run_sync(_pack, root, target)
    return BackupReport(
        manifest.revision,
        sum(table.rows for table in manifest.tables.values()),
        manifest.blobs,
        copied,
        target.stat().st_size,
        not site.embedded_index,
    )


def _copy_files(data: Path, root: Path, embedded_index: bool) -> int:
    (root / "keys").mkdir()
    for name in KEY_FILES:
        if (data / name).exists():
            shutil.copy2(data / name, root / "keys" / name)
    if (data / "events").exists():
        shutil.copytree(data / "events", root / "events", ignore=shutil.ignore_patterns("*.part", "*.tmp", ".*"))
    if not embedded_index or not (data / "index").exists():
        return 0
    from pysqlite3 import dbapi2

    copied = 0
    for path in sorted((data / "index").rglob("*.sqlite")):
        copy = root / "index" / path.relative_to(data / "index")
        copy.parent.mkdir(parents=True, exist_ok=True)
        # The online backup copies whole pages of one moment, while others write.
        source, into = dbapi2.connect(str(path)), dbapi2.connect(str(copy))
        try:
            source.backup(into)
        finally:
            into.close()
            source.close()
        copied += 1
    return copied


def _pack(root: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".part")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as archive:
                for path in sorted(root.iterdir()):
                    archive.add(path, path.name)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


async def restore(site: Site, source: Path, progress: Progress, *, replace: bool) -> BackupReport:
    """Load an archive and bring its schema to this version. Nothing else may use the installation meanwhile.

    Args:
        replace: also when the database holds data already; it is lost.

    Raises: NotFound; InvalidInput: no archive of ours, or damaged; Conflict: the database is not empty.
    """
    if not source.exists():
        raise NotFound(f"there is no file {str(source)!r}", param="file")
    with tempfile.TemporaryDirectory(prefix=".interlock-restore-", dir=site.data) as folder:
        root = Path(folder)
        progress("archive", 0)
        await anyio.to_thread.run_sync(_unpack, source, root)
        _check_tenants(site, root)
        # Every byte is checked before anything of the installation is touched.
        manifest = await anyio.to_thread.run_sync(backup.verify, root / "store")
        await backup.load(site.sql, root / "store", progress, blobs=site.blobs, replace=replace)
        await site.sql.write(_end_sessions)
        progress("index", 0)
        indexed = await anyio.to_thread.run_sync(_put_files, root, site.data, site.embedded_index)
        if not indexed:
            await _forget_index(site.sql)
    return BackupReport(
        manifest.revision,
        sum(table.rows for table in manifest.tables.values()),
        manifest.blobs,
        indexed,
        source.stat().st_size,
        not indexed,
    )


def _check_tenants(site: Site, root: Path) -> None:
    """Rows belong to a tenant: restored under another name they would be there and seen by nobody."""
    try:
        tenants = json.loads((root / "site.json").read_text("utf-8"))["tenants"]
    except FileNotFoundError:
        return  # an archive of before this was written down
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput("the archive's site.json is damaged", param="file") from error
    foreign = [name for name in tenants if name not in site.tenants]
    if foreign:
        raise Conflict(
            f"the archive belongs to the tenant {foreign[0]!r}, this workspace to {site.tenants[0]!r}",
            param="tenant",
            hint=f"set 'tenant: {foreign[0]}' in interlock.yaml, then restore again",
        )


def _unpack(source: Path, root: Path) -> None:
    try:
        with tarfile.open(source, mode="r:gz") as archive:
            members = archive.getmembers()
            for member in members:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                    raise tarfile.ExtractError(f"{member.name!r} leads out of the archive, or is no file")
            # Python 3.11 has filters from 3.11.4 on; later versions want one to be named.
            named = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(root, members=members, **named)  # type: ignore[arg-type]  # noqa: S202 - checked above
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InvalidInput(f"{source.name!r} is not a whole Interlock archive", param="file") from error
    if not (root / "store" / "manifest.json").exists():
        raise InvalidInput(f"{source.name!r} is not an Interlock archive", param="file")


def _put_files(root: Path, data: Path, embedded_index: bool) -> int:
    for name in KEY_FILES:
        kept = root / "keys" / name
        if kept.exists():
            (data / name).unlink(missing_ok=True)
            shutil.copy2(kept, data / name)
            (data / name).chmod(0o600)
    if (root / "events").exists():
        shutil.copytree(root / "events", data / "events", dirs_exist_ok=True)
    shutil.rmtree(data / "index", ignore_errors=True)
    if not embedded_index or not (root / "index").exists():
        return 0
    shutil.copytree(root / "index", data / "index")
    return sum(1 for _ in (data / "index").rglob("*.sqlite"))


def _end_sessions(conn: sa.Connection) -> None:
    """Who was signed in, and who held what, at the time of the backup says nothing about now."""
    from interlock.access.store import sessions
    from interlock.stores.kv.sql import kv_leases

    conn.execute(sessions.delete())
    conn.execute(kv_leases.delete())


async def _forget_index(sql: Sql) -> None:
    """Make every document look unread, so that the next ingest builds the index again."""
    from interlock.knowledge.store import knowledge_documents

    await sql.write(lambda conn: conn.execute(sa.update(knowledge_documents).values(fingerprint="")).rowcount)
