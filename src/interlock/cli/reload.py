"""`interlock reload`, `interlock config history`, `interlock config rollback`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.errors import Misconfigured, Unavailable
from interlock.core.ids import ulid

__all__ = ["history", "reload", "rollback"]

# Any in this module: what servers answered, as JSON.
_WAIT_S = 30.0


@click.command()
@click.option("--check", is_flag=True, help="Only say whether the configuration could be served by.")
@json_option
@pass_session
def reload(session: Session, check: bool, as_json: bool) -> None:
    """Let the servers of this machine take over interlock.yaml; exit 1 when it is refused and the old one goes on.

    The whole of it is checked first. Calls under way end with what they began with.
    """
    from interlock.server.running import running

    data = session.workspace().data
    if check or not running(data):
        _check(session)
        if as_json:
            emit({"ok": True, "servers": []})
        else:
            click.echo(
                "the configuration is good" + ("" if check else "; no server runs here, the next one starts by it")
            )
        return
    _show(_ask(data), as_json)


def _check(session: Session) -> None:
    async def work() -> None:
        async with session.open() as app:
            wanted = app.configuration.read()
            problems = await app.configuration.problems(wanted, trust_unchanged=False)
            if problems:
                more = "".join(f"; {problem.field}: {problem.message}" for problem in problems[1:])
                raise Misconfigured(
                    f"{problems[0].field}: {problems[0].message}{more}",
                    param=problems[0].field,
                    hint=problems[0].hint or None,
                )

    run(work())


def _ask(data: Path) -> list[dict[str, Any]]:
    """Ask every server of the workspace and wait for its answer. Raises: Unavailable: one does not answer."""
    from interlock.server.running import ask_to_reload, running

    token = ulid()
    asked = running(data)
    for server in asked:
        ask_to_reload(data, server, token)
    waiting = {server.pid for server in asked}
    answers: list[dict[str, Any]] = []
    until = time.monotonic() + _WAIT_S
    while waiting:
        alive = {server.pid: server for server in running(data)}
        for pid in list(waiting):
            found = alive.get(pid)
            if found is None:
                waiting.discard(pid)
            elif found.answer is not None and found.answer["token"] == token:
                answers.append({"pid": pid, "url": found.url, **found.answer})
                waiting.discard(pid)
        if waiting and time.monotonic() > until:
            raise Unavailable(f"the server {min(waiting)} does not answer", hint="see its log")
        time.sleep(0.05)
    return answers


def _show(answers: list[dict[str, Any]], as_json: bool, *, restored: int | None = None) -> None:
    is_good = all(answer["ok"] for answer in answers)
    if as_json:
        servers = [{name: value for name, value in answer.items() if name != "token"} for answer in answers]
        emit({"ok": is_good, "servers": servers})
    for answer in answers:
        if as_json:
            continue
        if answer["ok"]:
            same = "" if restored in {None, answer["number"]} else f", the same as {restored}"
            click.echo(f"{answer['url']}: configuration {answer['number']} holds{same}")
            for line in _news(answer) or ["changed: nothing"]:
                click.echo(f"  {line}")
            if answer["at_restart"]:
                click.secho(f"  after the next start: {', '.join(answer['at_restart'])}", fg="yellow")
        else:
            click.secho(f"{answer['url']}: refused, the old one goes on: {answer['error']['message']}", fg="red")
            if answer["error"]["hint"]:
                click.secho(f"  hint: {answer['error']['hint']}", dim=True)
    if not is_good:
        raise click.exceptions.Exit(1)


_GROUPS = {
    "gateway.providers.": "providers",
    "gateway.routes.": "routes",
    "gateway.approvals.": "approvals",
    "gateway.residency.": "residency of tenants",
    "cost.prices.": "prices",
    "cost.limits.": "limits",
}
_MOST_SETTINGS = 20


def _news(answer: dict[str, Any]) -> list[str]:
    """What a reload brought, a line for each kind of entry, then the settings that changed."""
    lines = []
    for verb in ("added", "removed"):
        for prefix, what in _GROUPS.items():
            names = [name.removeprefix(prefix) for name in answer[verb] if name.startswith(prefix)]
            if names:
                lines.append(f"{verb} {what}: {', '.join(names)}")
    shown, rest = answer["changed"][:_MOST_SETTINGS], len(answer["changed"]) - _MOST_SETTINGS
    if shown:
        lines.append(f"changed: {', '.join(shown)}" + (f" and {rest} more (--json has all)" if rest > 0 else ""))
    return lines


@click.command()
@json_option
@pass_session
def history(session: Session, as_json: bool) -> None:
    """Configurations that servers of this workspace accepted, newest first."""
    import hashlib

    from interlock.config import FILE, find_workspace
    from interlock.configuration import history_of

    # Also when the present file is broken: that is when somebody looks for the one before.
    root = find_workspace(session.root)
    present = hashlib.sha256((root / FILE).read_bytes()).hexdigest()
    rows = history_of(_data(session))
    if as_json:
        emit(
            [
                {"number": r.number, "at": r.at, "by": r.by, "sha256": r.digest, "present": r.digest == present}
                for r in rows
            ]
        )
    else:
        table(
            ["number", "accepted", "by", "sha256", ""],
            [
                (
                    r.number,
                    f"{r.at:%Y-%m-%d %H:%M:%S}",
                    r.by,
                    r.digest[:12],
                    "the file now" if r.digest == present else "",
                )
                for r in rows
            ],
            right=["number"],
        )


def _data(session: Session) -> Path:
    from interlock.config import find_workspace

    try:
        return session.workspace().data
    except Misconfigured:
        return find_workspace(session.root) / ".interlock"


@click.command()
@click.argument("number", type=click.IntRange(1), required=False)
@json_option
@pass_session
def rollback(session: Session, number: int | None, as_json: bool) -> None:
    """Write configuration NUMBER (default: the newest that differs) to interlock.yaml, and let servers take it over.

    It is checked as a whole first; when it would not work any more, nothing changes.
    """
    from interlock.server.running import running

    restored = _mended(session, number) or run(_rolled_back(session, number))
    data = _data(session)
    answers = _ask(data) if running(data) else []
    if not as_json:
        click.echo(f"interlock.yaml is configuration {restored} again")
    if answers or as_json:
        _show(answers, as_json, restored=restored)


async def _rolled_back(session: Session, number: int | None) -> int:
    async with session.open() as app:
        chosen = app.configuration.earlier(app.owner(), number)
        await app.configuration.rollback(app.owner(), chosen.number)
        return chosen.number


def _mended(session: Session, number: int | None) -> int | None:
    """Replace a file that cannot be read at all; None when it can. The commands that need it would all refuse."""
    from interlock.config import FILE, find_workspace, load_settings
    from interlock.configuration import history_of, write_whole

    try:
        session.workspace()
    except Misconfigured:
        root = find_workspace(session.root)
        known = history_of(_data(session))
        chosen = next((entry for entry in known if number in {None, entry.number}), None)
        if chosen is None:
            raise
        load_settings(root, session.flags, text=chosen.text)
        write_whole(root / FILE, chosen.text)
        return chosen.number
    return None
