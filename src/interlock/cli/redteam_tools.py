"""`interlock redteam install|use`: garak, promptfoo and AgentDojo against an app of the workspace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.evals import EXIT
from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.evals.redteam.outside.types import OutsideReport

__all__ = ["install_tool", "list_uses", "use_tool"]

_STARTS_S = 120.0


def _environments(session: Session) -> Path:
    return session.workspace().data / "redteam-tools"


@click.command("install")
@click.argument("tool")
@json_option
@pass_session
def install_tool(session: Session, tool: str, as_json: bool) -> None:
    """Install TOOL (garak, promptfoo, agentdojo) into an environment of its own, below the workspace's data.

    They are other people's programs: each brings its own licence and some hundred megabytes, or more.
    """
    from interlock.evals.redteam.outside.running import install

    home = _environments(session)
    click.echo(f"installing {tool}, which may take minutes; its words go to {home / tool / 'output.log'}", err=True)
    folder = run(install(tool, home))
    emit({"tool": tool, "folder": str(folder)}) if as_json else click.echo(f"{tool} is installed in {folder}")


@click.command("uses")
@json_option
@pass_session
def list_uses(session: Session, as_json: bool) -> None:
    """Runs of tools in this workspace, newest first, and the tools there are."""
    from interlock.evals.redteam.outside.running import OutsideRuns
    from interlock.evals.redteam.outside.tools import tools

    home = _environments(session)
    found = list(OutsideRuns(home / "runs", home).list())
    if as_json:
        import msgspec

        known = {name: (home / name / tools.get(name).executable).exists() for name in tools.names()}
        emit({"installed": known, "runs": [msgspec.to_builtins(each) for each in found]})
        return
    for name in tools.names():
        tool = tools.get(name)
        there = "installed" if (home / name / tool.executable).exists() else f"interlock redteam install {name}"
        click.echo(f"{tool.about}  [{there}]")
    if found:
        table(
            ["run", "tool", "target", "began", "worked", "verdict"],
            [
                (r.id, r.tool, r.target, f"{r.began_at:%Y-%m-%d %H:%M}", f"{r.worked} of {r.tried}", r.verdict or "")
                for r in found
            ],
        )


@click.command("use")
@click.argument("tool")
@click.option("--target", required=True, help="app/NAME, app/NAME@CHANNEL, route/NAME: as clients name it.")
@click.option(
    "--option", "options", multiple=True, metavar="OPTION", help="In the tool's own words; promptfoo: config=FILE."
)
@click.option(
    "--max-success",
    type=FiniteRange(0, 1),
    default=0.05,
    show_default=True,
    help="Gate: share of attacks that may work.",
)
@click.option("--no-gate", is_flag=True, help="Only measure.")
@click.option("--timeout", "timeout_s", type=FiniteRange(1, 86_400), default=3600.0, show_default=True)
@click.option(
    "-o", "--output", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the report: .md or .json"
)
@json_option
@pass_session
def use_tool(
    session: Session,
    /,
    tool: str,
    target: str,
    options: tuple[str, ...],
    max_success: float,
    no_gate: bool,
    timeout_s: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Let TOOL attack an app, which is served for it alone on a port of this machine.

    What it finds is evidence of kind red_team of the release that answered. Exits as `redteam run`.
    """
    from interlock.evals.redteam.outside.running import OutsideAsked, OutsideRuns, markdown

    if output is not None and output.suffix.lower() not in {".md", ".json"}:
        raise InvalidInput(f"{output.name!r} has no known ending", param="--output", hint="one of .md, .json")

    async def work() -> OutsideReport:
        home = _environments(session)
        async with session.open() as app:

            async def release() -> str:
                if not target.startswith("app/"):
                    app.parts.gateway.route(target)
                    return ""
                return (await app.parts.releases.resolve(app.owner(), target)).id

            await release()
            async with _served(session, home / "server.log") as address:
                asked = OutsideAsked(tool, target, address, options, None if no_gate else max_success, timeout_s)
                found = await OutsideRuns(home / "runs", home).run(asked, release_now=release)
            if found.release and found.verdict is not None:
                await _attach(app, found)
            return found

    found = run(work())
    if output is not None:
        import msgspec

        text = markdown(found) if output.suffix.lower() == ".md" else msgspec.json.encode(found).decode()
        output.write_text(text, "utf-8")
    if as_json:
        import msgspec

        emit(msgspec.to_builtins(found))
    else:
        _show(found)
    sys.exit(0 if found.verdict is None else EXIT[found.verdict])


@contextlib.asynccontextmanager
async def _served(session: Session, log: Path) -> AsyncIterator[str]:
    """The workspace's API on a free port of this machine, for as long as the block; gives its address with ``/v1``."""
    root = str(session.workspace().root)
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["-m", "interlock", "--workspace", root, "up", "--host", "127.0.0.1", "--port", "0", "--json"]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
        assert process.stdout is not None, "it was asked for"
        try:
            said = b""
            async with asyncio.timeout(_STARTS_S):
                while not said.rstrip().endswith(b"}"):
                    line = await process.stdout.readline()
                    if not line:
                        break
                    said += line
            yield str(json.loads(said)["api"])
        except (TimeoutError, ValueError, KeyError) as error:
            raise Unavailable("the app could not be served", code="not_served", hint=f"see {log}") from error
        finally:
            if process.returncode is None:
                process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(10):
                        await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _attach(app: App, found: OutsideReport) -> None:
    import msgspec

    from interlock.flows.evidence import Facts, attach_facts

    assert found.verdict is not None, "checked by the caller"
    facts = Facts(
        "red_team",
        found.tool,
        found.verdict,
        msgspec.to_builtins(found),
        {"tried": found.tried, "worked": found.worked, "version": found.version},
        f"{found.tool} {found.version}: {found.worked} of {found.tried} attacks worked",
    )
    await attach_facts(app.parts, app.owner(), found.target, found.release, facts)


def _show(found: OutsideReport) -> None:
    click.secho(f"{found.tool} {found.version}  {found.target}  {found.id}", bold=True)
    table(
        ["attack", "worked", "useful", "no answer"],
        [
            (
                row.name,
                f"{row.worked} of {row.tried}",
                "" if row.useful is None else f"{row.useful} of {row.tried}",
                row.failed or "",
            )
            for row in found.rows
        ],
        right=["worked", "useful", "no answer"],
    )
    if found.success is not None:
        low, high = found.success
        click.echo(f"{found.worked} of {found.tried} worked, 95 % {low:.1%} to {high:.1%}")
    if found.verdict is not None:
        colour = {"pass": "green", "fail": "red"}.get(found.verdict, "yellow")
        click.secho(f"gate: {found.verdict.replace('_', ' ')}", fg=colour, bold=True)
