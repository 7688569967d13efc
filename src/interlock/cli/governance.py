"""`interlock audit`."""

from __future__ import annotations

from dataclasses import asdict

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table

__all__ = ["audit"]


@click.group()
def audit() -> None:
    """Read, prove and verify the audit log."""


@audit.command("list")
@click.option("--action", help="Only this action, e.g. chat.answer.")
@click.option("--limit", type=click.IntRange(1, 1000), default=30, show_default=True)
@json_option
@pass_session
def list_lines(session: Session, action: str | None, limit: int, as_json: bool) -> None:
    """Lines, newest first."""

    async def work() -> None:
        async with session.open() as app:
            lines = await app.parts.governance.lines(app.owner(), action=action, limit=limit)
            if as_json:
                emit([asdict(line) for line in lines])
            else:
                table(
                    ["seq", "when", "actor", "for", "action", "outcome", "subject"],
                    [
                        (
                            line.seq,
                            f"{line.at:%m-%d %H:%M:%S}",
                            line.actor,
                            line.end_user,
                            line.action,
                            line.outcome,
                            line.subject[:24],
                        )
                        for line in lines
                    ],
                    right=["seq"],
                )

    run(work())


@audit.command()
@json_option
@pass_session
def head(session: Session, as_json: bool) -> None:
    """The newest signed root: keep it elsewhere, and verify against it later."""

    async def work() -> None:
        async with session.open() as app:
            newest = await app.parts.governance.head()
            if as_json:
                emit({**newest._asdict(), "public_key": app.parts.governance.public_key})
            else:
                click.echo(f"{newest.size}:{newest.root}")
                click.secho(f"signed {newest.at:%Y-%m-%d %H:%M:%S} UTC by {app.parts.governance.public_key}", dim=True)

    run(work())


@audit.command()
@click.option("--head", "kept", metavar="SIZE:ROOT", help="A head kept elsewhere that this log must contain.")
@json_option
@pass_session
def verify(session: Session, kept: str | None, as_json: bool) -> None:
    """Recompute the whole log and check every signed head."""
    size, _, root = (kept or "").partition(":")
    if kept and (not size.isdigit() or len(root) != 64):
        raise click.UsageError("--head takes SIZE:ROOT as `interlock audit head` prints it")

    async def work() -> bool:
        async with session.open() as app:
            result = await app.parts.governance.verify(size=int(size) if kept else None, root=root if kept else None)
            if as_json:
                emit(result._asdict())
            elif result.ok:
                click.echo(f"the log is whole: {result.size} lines, root {result.root}")
            else:
                click.secho("the log is NOT whole:", fg="red")
                for problem in result.problems[:20]:
                    click.echo(f"  {problem}")
            return result.ok

    if not run(work()):
        raise click.exceptions.Exit(1)


@audit.command()
@click.argument("seq", type=click.IntRange(min=0))
@json_option
@pass_session
def prove(session: Session, seq: int, as_json: bool) -> None:
    """Proof that line SEQ is in the log, for somebody who only has a head (RFC 6962 §2.1.1)."""

    async def work() -> None:
        async with session.open() as app:
            newest, path = await app.parts.governance.prove(seq)
            lines = await app.parts.governance.lines(app.owner(), before=seq + 1, limit=1)
            leaf = lines[0].leaf if lines and lines[0].seq == seq else None
            proof = {"seq": seq, "leaf": leaf, "size": newest.size, "root": newest.root, "path": path}
            if as_json:
                emit(proof)
            else:
                for name, value in proof.items():
                    click.echo(f"{name}: {value}")

    run(work())
