"""`interlock mcp`: search and documents for a client on this machine that speaks the Model Context Protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from interlock.cli.session import Session, pass_session, run

if TYPE_CHECKING:
    from interlock.core.context import Context

__all__ = ["mcp"]


@click.command()
@click.option("--as", "user", metavar="USER", help="Answer as a user of the directory; default: the local owner.")
@pass_session
def mcp(session: Session, user: str | None) -> None:
    """Serve search and documents over standard input and output, for one client.

    A server that runs already offers the same over HTTP, at /mcp.
    """

    async def work() -> None:
        async with session.open() as app:
            from interlock.server.mcp import build_server

            async def caller(_: object) -> Context:
                # Anew for every request: its deadline begins then, and the directory may have changed.
                return app.owner() if user is None else app.parts.access.act_as(app.owner(), user)

            if user is not None:
                await caller(None)  # a name that is nobody's ends it here, not in the client's log
            server = build_server(app, caller)
            from mcp.server.stdio import stdio_server

            async with stdio_server() as (read, write):
                await server.run(read, write, server.create_initialization_options())

    run(work())
