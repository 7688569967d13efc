"""`interlock doctor`: what :mod:`interlock.examination` finds, for people and for scripts."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run
from interlock.core.errors import InterlockError

if TYPE_CHECKING:
    from interlock.examination import Finding

__all__ = ["doctor"]


class _Store(NamedTuple):
    setting: Literal["sql", "kv"]
    name: str


_STORES = {"stores.sql": _Store("sql", "database"), "stores.kv": _Store("kv", "shared state")}


@click.command()
@json_option
@pass_session
def doctor(session: Session, as_json: bool) -> None:
    """Look at everything this workspace needs; exit 1 when something is broken."""

    async def work() -> list[Finding]:
        # Imported here: the command line must start without the parts.
        from interlock.examination import Finding, examine

        findings = [_python()]
        try:
            session.workspace()
        except InterlockError as error:
            return [
                *findings,
                Finding(
                    "fail",
                    "workspace",
                    error.message,
                    error.hint or "edit interlock.yaml; see all settings with: interlock config show",
                ),
            ]
        without: set[Literal["sql", "kv"]] = set()
        while True:
            try:
                async with session.open(without=without) as app:
                    return [*findings, *[finding async for finding in examine(app, without=without)]]
            except InterlockError as error:
                away = _STORES.get(error.param or "")
                if away is None or away.setting in without:
                    findings.append(Finding("fail", "opening the workspace", error.message, error.hint or ""))
                    return findings
                # The others still say what they know.
                without.add(away.setting)
                findings.append(Finding("fail", away.name, error.message, error.hint or ""))

    findings = run(work())
    if as_json:
        emit([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            mark, colour = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}[finding.state]
            click.secho(mark, fg=colour, nl=False)
            click.echo(f"  {finding.what}" + (f": {finding.cause}" if finding.cause else ""))
            if finding.fix:
                click.secho(f"      fix: {finding.fix}", dim=True)
    if any(finding.state == "fail" for finding in findings):
        raise click.exceptions.Exit(1)


def _python() -> Finding:
    from interlock.examination import Finding

    return Finding("ok", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
