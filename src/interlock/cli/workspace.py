"""`interlock init`, `config`, `version`, `completion`."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import click

from interlock import __version__
from interlock.cli.reload import history, rollback
from interlock.cli.session import Session, emit, json_option, pass_session, run, table

__all__ = ["completion", "config", "init", "version"]


@click.command()
@click.argument("directory", type=click.Path(file_okay=False), required=False)
@click.option("--template", default="qa", show_default=True, help="Which starting point; --list shows all.")
@click.option("--list", "list_all", is_flag=True, help="List templates and stop.")
@json_option
def init(directory: str | None, template: str, list_all: bool, as_json: bool) -> None:
    """Make a workspace in DIRECTORY: an app, its prompt, a policy, a source of documents."""
    from interlock.templates import templates, write_template

    if list_all:
        found = templates()
        if as_json:
            emit([t._asdict() for t in found])
        else:
            table(["template", "what it is"], [(t.name, t.description) for t in found])
        return
    if directory is None:
        raise click.UsageError("name the directory to make: interlock init DIRECTORY")
    written = write_template(template, Path(directory))
    if as_json:
        emit({"workspace": directory, "template": template, "files": written})
        return
    for name in written:
        click.secho(f"  {name}", dim=True)
    click.echo(
        f"\n{directory} is ready. Next:\n  cd {directory}\n  interlock models fetch\n  interlock ingest\n  interlock up"
    )


@click.group()
def config() -> None:
    """Show settings and where they came from; go back to earlier ones."""


config.add_command(history)
config.add_command(rollback)


@config.command()
@click.argument("prefix", required=False, default="")
@json_option
@pass_session
def show(session: Session, prefix: str, as_json: bool) -> None:
    """Every setting (or those whose name starts with PREFIX), its value and its source."""
    from interlock.config import shown_value

    origins = [
        origin._replace(value=shown_value(origin.name, origin.value))
        for origin in session.workspace().origins()
        if origin.name.startswith(prefix)
    ]
    if as_json:
        emit([origin._asdict() for origin in origins])
    else:
        table(["setting", "value", "from"], origins)


@click.command()
@json_option
@pass_session
def version(session: Session, as_json: bool) -> None:
    """Version of Interlock, of Python, and of the workspace's database."""
    from interlock.core.errors import InterlockError

    schema: str | None = None
    try:
        session.workspace()
    except InterlockError:
        pass
    else:

        async def revision() -> str | None:
            async with session.open() as app:
                return await app.sql.revision()

        schema = run(revision())
    facts = {"interlock": __version__, "python": platform.python_version(), "schema": schema}
    if as_json:
        emit(facts)
    else:
        click.echo(
            f"interlock {__version__} · Python {facts['python']} · schema {schema or 'none (no workspace here)'}"
        )


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), required=False)
def completion(shell: str | None) -> None:
    """Print a completion script: eval "$(interlock completion bash)"."""
    from click.shell_completion import get_completion_class

    from interlock.cli.root import cli

    name = shell or Path(os.environ.get("SHELL", "bash")).name
    found = get_completion_class(name)
    if found is None:
        raise click.UsageError(f"no completion for the shell {name!r}; say bash, zsh or fish")
    script = found(cli, {}, "interlock", "_INTERLOCK_COMPLETE").source()
    sys.stdout.write(script)
