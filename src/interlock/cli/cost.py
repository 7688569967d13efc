"""`interlock cost`."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, cast

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.clock import now

__all__ = ["cost"]

_By = Literal["app", "model", "provider", "principal", "end_user"]


@click.command()
@click.option(
    "--by",
    type=click.Choice(["app", "model", "provider", "principal", "end_user"]),
    default="app",
    show_default=True,
)
@click.option("--days", type=float, default=30.0, show_default=True)
@click.option("--user", metavar="USER", help="Only what this end user's calls cost.")
@json_option
@pass_session
def cost(session: Session, by: str, days: float, user: str | None, as_json: bool) -> None:
    """Sum up the ledger: calls, tokens, money; unpriced calls are counted apart.

    The ledger knows end users by pseudonyms: ask for one by id with --user.
    """

    async def work() -> None:
        async with session.open() as app:
            until = now()
            rows = await app.parts.cost.spend(
                app.owner(), by=cast("_By", by), since=until - timedelta(days=days), until=until, user=user
            )
            if as_json:
                emit([{**row._asdict(), "cost": f"{row.cost.decimal():f}"} for row in rows])
            else:
                table(
                    [by, "calls", "input", "output", "cost", "unpriced"],
                    [
                        (
                            r.key or "(none)",
                            r.calls,
                            r.input_tokens,
                            r.output_tokens,
                            str(r.cost),
                            r.unpriced_calls or "",
                        )
                        for r in rows
                    ],
                    right=["calls", "input", "output", "cost", "unpriced"],
                )

    run(work())
