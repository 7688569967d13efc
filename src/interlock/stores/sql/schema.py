"""Migrations, run from inside the package on a connection that the caller holds in a transaction."""

from __future__ import annotations

import importlib
import pkgutil
from importlib import resources
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection

from interlock.core.errors import Misconfigured

if TYPE_CHECKING:
    from alembic.config import Config

_VERSION = sa.table("alembic_version", sa.column("version_num"))

__all__ = ["current_revision", "known_revisions", "newest_revision", "register_tables", "upgrade"]


def _config(connection: Connection | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option(
        "script_location", str(resources.files("interlock.stores.sql") / "migrations").replace("%", "%%")
    )
    config.attributes["connection"] = connection
    return config


def current_revision(connection: Connection) -> str | None:
    """The revision this database is at, None when it was never migrated."""
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    at: str | None = connection.scalar(sa.select(_VERSION.c.version_num))
    return at


def newest_revision() -> str:
    """The newest revision this version of the package knows: the last file's name, as history has no branches.

    Alembic is not asked: its import is a quarter of what starting takes, and nearly always nothing is to be done.
    """
    return max(name for name in _files() if not name.startswith("_"))


def _files() -> list[str]:
    folder = resources.files("interlock.stores.sql") / "migrations" / "versions"
    return [entry.name.removesuffix(".py") for entry in folder.iterdir() if entry.name.endswith(".py")]


def known_revisions() -> set[str]:
    """Every revision this version of the package can migrate from."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def upgrade(connection: Connection, revision: str = "head") -> list[str]:
    """Apply every migration up to `revision`; give those applied, oldest first.

    Runs inside the caller's transaction, so that a migration that fails leaves nothing behind.

    Raises: Misconfigured: the database is a newer version's.
    """
    before = current_revision(connection)
    if revision == "head" and before == newest_revision():
        return []
    if before is not None and before not in _files():
        raise Misconfigured(
            f"the database is at revision {before!r}, which this version of Interlock does not know",
            param="stores.sql",
            code="newer_database",
            hint="run the newer version again, or restore a backup of before its upgrade",
        )
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _config(connection)
    command.upgrade(config, revision)
    after = current_revision(connection)
    if after is None or after == before:
        return []
    steps = ScriptDirectory.from_config(config).iterate_revisions(after, before or "base")
    return [step.revision for step in steps][::-1]


def register_tables() -> list[str]:
    """Import every module of Interlock that defines tables, so that `metadata` is whole; give their names, sorted.

    For tests and tools that compare the metadata with a database: the parts import their own tables themselves.
    """
    import interlock

    names = {"interlock.stores.jobs.sql", "interlock.stores.kv.sql"}
    for package in pkgutil.iter_modules(interlock.__path__, "interlock."):
        if package.ispkg:
            module = importlib.import_module(package.name)
            names.update(m.name for m in pkgutil.iter_modules(module.__path__, f"{package.name}.") if _has_tables(m))
    for name in sorted(names):
        importlib.import_module(name)
    return sorted(names)


def _has_tables(module: pkgutil.ModuleInfo) -> bool:
    return module.name.endswith((".store", "_store"))
