"""What every command shares: the workspace, running async work, printing."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import unicodedata
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.config import Workspace

__all__ = ["FiniteRange", "Session", "emit", "json_option", "pass_session", "run", "table"]

T = TypeVar("T")


class Session:
    """Global options of this run."""

    def __init__(self, workspace: str | None, overrides: Sequence[str]) -> None:
        self.root = None if workspace is None else Path(workspace)
        self.flags = _nested(overrides)

    def open(self, *, without: Collection[Literal["sql", "kv"]] = ()) -> AbstractAsyncContextManager[App]:
        """Open the workspace's App. `without`: see `open_app`."""
        from interlock.app import open_app

        return open_app(self.root, flags=self.flags, without=without)

    def workspace(self) -> Workspace:
        """Only the settings, without opening a store."""
        from interlock.config import find_workspace, load_settings

        return load_settings(find_workspace(self.root), self.flags)


class FiniteRange(click.FloatRange):
    """A range of numbers: click's own lets nan through every bound, and nothing compares with it."""

    # Any: click's own signature.
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no number to reckon with", param, ctx)
        return found


pass_session = click.make_pass_decorator(Session)


def json_option(command: Callable[..., T]) -> Callable[..., T]:
    """Adds ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


# Any: nested settings before validation.
def _nested(overrides: Sequence[str]) -> dict[str, Any]:
    from interlock.core.yaml_text import YamlFault, read_yaml

    flags: dict[str, Any] = {}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--set takes NAME=VALUE, not {override!r}")
        at = flags
        *steps, last = name.split(".")
        for step in steps:
            at = at.setdefault(step, {})
            if not isinstance(at, dict):
                raise click.UsageError(f"--set {name} goes below a value that another --set gave")
        try:
            at[last] = read_yaml(value)
        except YamlFault as error:
            raise click.UsageError(f"--set {name}: the value is not YAML; quote it") from error
    return flags


def run(work: Coroutine[Any, Any, T]) -> T:  # Any: what a coroutine sends and yields is asyncio's business
    """Run async work of a command on uvloop where it is there."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def emit(value: object) -> None:
    """Print JSON on standard output, times as over HTTP."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_written))


def _written(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _harmless(text: str) -> str:
    """Names that callers made up must not move the cursor, or write a terminal's title or clipboard."""
    shown = text.replace("\n", " ")
    return "".join("\ufffd" if unicodedata.category(c) in {"Cc", "Cf", "Cs"} else c for c in shown)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print a table; nothing to list says so."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        click.echo("nothing to list")
        return
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for position, column in enumerate(columns):
        # Ids, times and numbers are read as a whole; only long text may wrap.
        short = max(len(str(row[position])) for row in rows) <= 24
        shown.add_column(column, justify="right" if column in right else "left", no_wrap=short, overflow="fold")
    for row in rows:
        # Text, not markup: a title with brackets must not be read as a style.
        shown.add_row(*(Text("" if cell is None else _harmless(str(cell))) for cell in row))
    # A pipe or a file has no width to fit: rows stay whole there.
    width = None if sys.stdout.isatty() else 10_000
    Console(width=width).print(shown)
