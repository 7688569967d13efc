"""`interlock up`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run

if TYPE_CHECKING:
    from interlock.app import App

__all__ = ["serve_app", "up"]


@click.command()
@click.option("--host", help="Address to listen on (setting server.host).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port, 0 for a free one (setting server.port).")
@click.option("--warm/--no-warm", default=True, show_default=True, help="Load models before taking requests.")
@click.option("--no-fast-lane", is_flag=True, help="Answer every call by the ordinary path (setting server.fast_lane).")
@click.option("--watch", is_flag=True, help="Reload whenever interlock.yaml changes (setting server.watch).")
@json_option
@pass_session
def up(
    session: Session,
    *,
    host: str | None,
    port: int | None,
    warm: bool,
    no_fast_lane: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """Serve the API and the console until Ctrl-C; open streams finish first."""
    if watch:
        session.flags.setdefault("server", {})["watch"] = True

    async def work() -> None:
        async with session.open() as app:
            await serve_app(app, host=host, port=port, warm=warm, fast_lane=not no_fast_lane, as_json=as_json)

    run(work())


async def serve_app(
    app: App,
    *,
    host: str | None = None,
    port: int | None = None,
    warm: bool,
    fast_lane: bool = True,
    as_json: bool,
) -> None:
    """Console, API and one worker in this process."""
    from interlock.console import routes
    from interlock.server.process import serve
    from interlock.worker.loop import work

    server = app.workspace.settings.server
    address = host or server.host
    if warm:
        await app.warm()

    def ready(url: str) -> None:
        if as_json:
            emit({"url": url, "api": f"{url}/v1"})
            return
        click.echo(f"Interlock is up at {url}  (OpenAI base URL: {url}/v1)")
        for found in app.detected:
            click.secho(f"  using {found.target}: {found.how}", dim=True)
        if app.workspace.settings.access.anonymous and address in {"127.0.0.1", "localhost", "::1"}:
            click.secho("  single-user mode: calls from this machine need no key", dim=True)
        elif address not in {"127.0.0.1", "localhost", "::1"}:
            click.secho("  callers from other machines need a key: interlock keys create NAME", dim=True)

    worker = asyncio.ensure_future(work(app))
    try:
        await serve(
            app,
            host=address,
            port=server.port if port is None else port,
            extra=routes(app),
            on_ready=ready,
            fast_lane=fast_lane and server.fast_lane,
        )
    finally:
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker
