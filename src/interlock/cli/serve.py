"""`interlock up`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run
from interlock.core.errors import Misconfigured

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.config import Workspace
    from interlock.server.peers import Place

__all__ = ["serve_app", "up"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.option("--host", help="Address to listen on (setting server.host).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port, 0 for a free one (setting server.port).")
@click.option("--warm/--no-warm", default=True, show_default=True, help="Load models before taking requests.")
@click.option("--no-fast-lane", is_flag=True, help="Answer every call by the ordinary path (setting server.fast_lane).")
@click.option("--watch", is_flag=True, help="Reload whenever interlock.yaml changes (setting server.watch).")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that serve together (setting server.workers).")
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
    workers: int | None,
    as_json: bool,
) -> None:
    """Serve the API and the console until Ctrl-C; open streams finish first."""
    from interlock.server.peers import place_of_this_process

    server = session.flags.setdefault("server", {})
    if watch:
        server["watch"] = True
    if workers is not None:
        server["workers"] = workers
    place = place_of_this_process()
    if place is None and (workspace := session.workspace()).settings.server.workers > 1:
        raise click.exceptions.Exit(run(_supervise(workspace, host=host, port=port, as_json=as_json)))

    async def work() -> None:
        async with session.open() as app:
            await serve_app(
                app, host=host, port=port, warm=warm, fast_lane=not no_fast_lane, as_json=as_json, place=place
            )

    run(work())


async def _supervise(workspace: Workspace, *, host: str | None, port: int | None, as_json: bool) -> int:
    """Start the workers and look after them; gives the exit code."""
    from interlock.server.workers import Supervisor

    settings = workspace.settings
    if settings.stores.kv == "memory":
        raise Misconfigured(
            "stores.kv is memory, and each of several workers would count limits for itself",
            param="stores.kv",
            hint="set stores.kv: sql (or a Redis server's address), or server.workers: 1",
        )
    if _may_run_models(workspace):
        click.secho(
            f"warning: each of the {settings.server.workers} workers loads its own copy of the local models it uses",
            fg="yellow",
            err=True,
        )
    address = host or settings.server.host

    def ready(facts: Mapping[str, Any]) -> None:  # Any: JSON of ours
        _announce(workspace, address, facts, as_json=as_json)

    return await Supervisor(
        [sys.executable, "-m", "interlock", *sys.argv[1:]],
        count=settings.server.workers,
        host=address,
        port=settings.server.port if port is None else port,
        shutdown_s=settings.server.shutdown_s,
    ).run(ready)


def _may_run_models(workspace: Workspace) -> bool:
    """True when apps, documents or a route may use models that run inside the workers."""
    settings = workspace.settings
    local = {name for name, provider in settings.gateway.providers.items() if provider.kind == "local"}
    routed = (target for route in settings.gateway.routes.values() for target in route.targets)
    return (
        any(target.partition("/")[0] in local for target in routed)
        or any(workspace.path(settings.apps_dir).glob("*/app.yaml"))
        or any(workspace.path(settings.knowledge_dir).glob("*.yaml"))
    )


def _announce(workspace: Workspace, address: str, facts: Mapping[str, Any], *, as_json: bool) -> None:  # Any: JSON
    url = facts["url"]
    if as_json:
        emit({"url": url, "api": f"{url}/v1"})
        return
    click.echo(f"Interlock is up at {url}  (OpenAI base URL: {url}/v1)")
    for target, how in facts["detected"]:
        click.secho(f"  using {target}: {how}", dim=True)
    if workspace.settings.access.anonymous and address in _LOOPBACK:
        click.secho("  single-user mode: calls from this machine need no key", dim=True)
    elif address not in _LOOPBACK:
        click.secho("  callers from other machines need a key: interlock keys create NAME", dim=True)


async def serve_app(
    app: App,
    *,
    host: str | None = None,
    port: int | None = None,
    warm: bool,
    fast_lane: bool = True,
    as_json: bool,
    place: Place | None = None,
) -> None:
    """Console and API in this process; jobs too, in a single process or in the first of several."""
    from interlock.console import routes
    from interlock.server.process import serve
    from interlock.worker.loop import work

    _log_reloads()
    server = app.workspace.settings.server
    address = host or server.host
    if warm:
        await app.warm()
    if place is None or place.number == 1:
        from interlock.examination import apps_astray

        for astray in await apps_astray(app):
            click.secho(f"warning: {astray.what}: {astray.cause} (fix: {astray.fix})", fg="yellow", err=True)

    def ready(url: str) -> None:
        facts = {"url": url, "detected": [[str(found.target), found.how] for found in app.detected]}
        if place is None:
            _announce(app.workspace, address, facts, as_json=as_json)
        else:
            place.tell(facts)

    async with contextlib.AsyncExitStack() as stack:
        if place is None or place.number == 1:
            worker = asyncio.ensure_future(work(app))
            stack.push_async_callback(_ended, worker)
        await serve(
            app,
            host=address,
            port=server.port if port is None else port,
            extra=routes(app),
            on_ready=ready,
            fast_lane=fast_lane and server.fast_lane,
            place=place,
        )


def _log_reloads() -> None:
    """Say each reload, accepted or refused, on standard error, also when nothing else is logged there."""
    log = logging.getLogger("interlock.config")
    if logging.getLogger().handlers or log.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


async def _ended(worker: asyncio.Future[None]) -> None:
    worker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await worker
