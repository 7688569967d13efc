"""`interlock route`, `interlock routes`, `interlock providers`."""

from __future__ import annotations

from typing import Any

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table

__all__ = ["providers", "route", "routes"]

# Any in this module: rows of JSON.


@click.group()
def route() -> None:
    """Say where a request would go."""


@route.command()
@click.argument("model")
@click.option(
    "--as",
    "callers",
    multiple=True,
    metavar="KIND:ID",
    help="As key:ID, tenant:NAME or user:NAME; repeatable (default: you).",
)
@click.option("--region", "regions", multiple=True, help="The request must stay in one of these; repeatable.")
@click.option("--tools", is_flag=True, help="It brings tools.")
@click.option("--images", is_flag=True, help="It holds images or files.")
@click.option("--schema", is_flag=True, help="It asks for JSON of a schema.")
@click.option("--tokens", type=click.IntRange(0), default=0, help="Tokens of its prompt.")
@click.option("--max-tokens", type=click.IntRange(1), help="Longest answer (default: the route's).")
@json_option
@pass_session
def explain(
    session: Session,
    model: str,
    callers: tuple[str, ...],
    regions: tuple[str, ...],
    tools: bool,
    images: bool,
    schema: bool,
    tokens: int,
    max_tokens: int | None,
    as_json: bool,
) -> None:
    """Which target of MODEL would be asked, in which order the others follow, and why the rest may not be.

    MODEL is route/NAME, app/NAME or provider/model. Nothing is sent and nothing is counted. Health (breaker, latency)
    is what this process knows: ask a running server with POST /api/v1/routes/explain. Exit 1 when no target may serve.
    """
    from dataclasses import replace

    from interlock.core.ids import TenantId
    from interlock.flows.operations import Asking, explain_route, route_answer_view

    who = _callers(callers)

    async def work() -> dict[str, Any]:
        async with session.open() as app:
            ctx = app.owner()
            if tenant := who.get("tenant"):
                ctx = replace(ctx, tenant=TenantId(tenant))
            asking = Asking(
                model,
                tools=tools,
                images=images,
                schema=schema,
                input_tokens=tokens,
                output_tokens=max_tokens,
                regions=regions,
                key=who.get("key", ""),
                user=who.get("user", ""),
            )
            return route_answer_view(await explain_route(app.parts, ctx, asking))

    shown = run(work())
    if as_json:
        emit(shown)
    else:
        _show_explained(shown)
    if shown["chosen"] is None:
        raise click.exceptions.Exit(1)


def _callers(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for one in given:
        kind, colon, name = one.partition(":")
        if kind not in {"key", "tenant", "user"} or not colon or not name:
            raise click.BadParameter(f"{one!r} is not key:ID, tenant:NAME or user:NAME", param_hint="--as")
        found[kind] = name
    return found


def _show_explained(shown: dict[str, Any]) -> None:
    for regions in shown["regions"]:
        click.echo(f"must stay in: {', '.join(regions)}")
    if shown["downgraded"]:
        click.echo(f"a budget is {shown['pressure']:.0%} used, so the cheapest target goes first")
    _show_targets(f"{shown['model']} ({shown['strategy']})", shown["targets"])
    if shown["last_resort"]:
        _show_targets("when none of these can: smaller", shown["last_resort"])
    if shown["chosen"] is None:
        click.secho("no target may take this request", fg="red")


def _show_targets(title: str, rows: list[dict[str, Any]]) -> None:
    click.echo(title)
    for row in rows:
        mark = f"{row['position']:>3}." if row["position"] is not None else "   –"
        click.secho(f"{mark} {row['target']}", bold=row["position"] == 1, nl=False)
        facts = [
            f"{row['context_tokens']:,} tokens context" if row["context_tokens"] else "context unknown",
            _price(row["price_per_million_usd"]),
        ]
        if row["state"]["first_token_ms"] is not None:
            facts.append(f"first token {row['state']['first_token_ms']:.0f} ms")
        click.secho(f"  {'; '.join(facts)}", dim=True)
        if row["reason"]:
            click.echo(f"      not this one: {row['reason']} ({row['code']})")
        for name in row["limits"]:
            click.secho(f"      the limit {name} would refuse it now", fg="yellow")
        for warning in row["warnings"]:
            click.secho(f"      {warning}", fg="yellow")


def _price(price: str | None) -> str:
    return "no known price" if price is None else f"${price} a million in and out"


@click.command()
@json_option
@pass_session
def routes(session: Session, as_json: bool) -> None:
    """Named routes and those of apps, with their targets and what stands against them now."""
    from interlock.flows.operations import route_rows

    async def work() -> None:
        async with session.open() as app:
            rows = route_rows(app.parts, app.owner())
            if as_json:
                emit(rows)
                return
            table(
                ["route", "strategy", "target", "state"],
                [
                    (row["name"] if number == 0 else "", row["strategy"] if number == 0 else "", *_target_row(target))
                    for row in rows
                    for number, target in enumerate(row["targets"] or [None])
                ],
            )

    run(work())


def _target_row(target: dict[str, Any] | None) -> tuple[str, str]:
    if target is None:
        return "(none)", "no target can be used"
    weight = f" ({target['weight']:g})" if target["weight"] is not None else ""
    said = target["reason"] or "; ".join(target["warnings"]) or target["state"]["breaker"]
    return f"{target['target']}{weight}", said


@click.group()
def providers() -> None:
    """List, test and register providers."""


@providers.command("list")
@json_option
@pass_session
def list_providers(session: Session, as_json: bool) -> None:
    """Configured providers."""
    from interlock.flows.operations import provider_rows

    async def work() -> None:
        async with session.open() as app:
            rows = provider_rows(app.parts, app.owner())
            if as_json:
                emit(rows)
                return
            table(
                ["provider", "kind", "models", "at once"],
                [
                    (
                        row["name"],
                        row["kind"],
                        ", ".join(row["models"]) or "asked from it",
                        row["max_concurrency"] or "any number",
                    )
                    for row in rows
                ],
            )

    run(work())


@providers.command("test")
@click.argument("name", required=False)
@click.option("--model", help="Call this model for a word, instead of asking for the list.")
@json_option
@pass_session
def check_providers(session: Session, name: str | None, model: str | None, as_json: bool) -> None:
    """Ask NAME (or every provider) now: does it answer, is the key good, how long does it take. Exit 1 when one fails.

    The list of models is asked for; a provider without one is called with its first configured model, which costs a
    few tokens and is charged like any call. No key is ever shown.
    """
    from interlock.flows.operations import ProviderProbe, probe_provider

    if model is not None and name is None:
        raise click.UsageError("--model goes with the NAME of a provider")

    async def work() -> list[ProviderProbe]:
        async with session.open() as app:
            names = [name] if name is not None else app.parts.gateway.provider_names
            return [await probe_provider(app.parts, app.owner(), one, model=model) for one in names]

    found = run(work())
    if as_json:
        emit([one._asdict() for one in found])
    else:
        for one in found:
            click.secho("ok  " if one.ok else "FAIL", fg="green" if one.ok else "red", nl=False)
            what = f"{one.models} models listed" if one.how == "list" else f"{one.model} answered"
            click.echo(f"  {one.name} ({one.kind}): {what if one.ok else one.message}, {one.latency_ms:.0f} ms")
            if one.hint:
                click.secho(f"      hint: {one.hint}", dim=True)
    if not all(one.ok for one in found):
        raise click.exceptions.Exit(1)


@providers.command()
@json_option
@pass_session
def register(session: Session, as_json: bool) -> None:
    """What each target is approved for: uses, regions, retention, training, last day.

    Exit 1 when one that a route or an app names may not serve.
    """
    from interlock.flows.operations import provider_register, registered_view

    async def work() -> list[dict[str, Any]]:
        async with session.open() as app:
            return [registered_view(row) for row in provider_register(app.parts, app.owner())]

    rows = run(work())
    if as_json:
        emit(rows)
    else:
        table(
            ["target", "state", "uses", "regions", "kept", "trains", "until", "used by"],
            [
                (
                    row["target"],
                    row["state"],
                    ", ".join(row["uses"] or ()),
                    ", ".join(row["regions"] or ()),
                    "" if row["retention_days"] is None else f"{row['retention_days']} d",
                    {None: "", True: "yes", False: "no"}[row["trains_on_data"]],
                    row["deprecated_on"] or "",
                    ", ".join(row["used_by"]),
                )
                for row in rows
            ],
        )
        for row in rows:
            if row["state"] in {"refused", "ended", "ends soon"}:
                click.secho(f"{row['target']}: {row['reason']}", fg="yellow")
    if any(row["state"] in {"refused", "ended"} and row["used_by"] for row in rows):
        raise click.exceptions.Exit(1)
