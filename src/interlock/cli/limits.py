"""`interlock limits` and `interlock budgets`: one kind of rule; budgets are those on money."""

from __future__ import annotations

from typing import Any

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table

__all__ = ["budgets", "limits"]

# Any in this module: options on their way to the rule's own validation, and rows of JSON.
_REGAIN = "To count the tokens and money that the ledger has of it: interlock limits reconcile --repair"


def _set(session: Session, as_json: bool, values: dict[str, Any]) -> None:
    from interlock.cost.rules import read_rule
    from interlock.flows.limit_views import rule_view

    rule = read_rule({name: value for name, value in values.items() if value not in (None, (), {})})

    async def work() -> None:
        async with session.open() as app:
            known = await app.parts.limits.put(app.owner(), rule)
            if as_json:
                emit({**rule_view(known), "begins_anew": known.begins_anew})
            else:
                click.echo(f"{rule.name} holds: {_figures(rule_view(known))}")
                click.secho("Running servers take it over within a few seconds.", dim=True)
                if known.begins_anew:
                    click.secho(
                        "It counts from 0: what was counted is of another window, period, time zone or `per`."
                        + (f" {_REGAIN}" if set(rule.measures) != {"requests"} else ""),
                        fg="yellow",
                    )

    run(work())


def _list(session: Session, as_json: bool, *, only_money: bool) -> None:
    from interlock.flows.limit_views import rule_view

    async def work() -> None:
        async with session.open() as app:
            known = [k for k in app.parts.limits.list(app.owner()) if k.rule.money is not None or not only_money]
            rows = [rule_view(one) for one in known]
            if as_json:
                emit(rows)
                return
            table(
                ["name", "limit", "for", "each", "mode", "from"],
                [
                    (
                        row["name"],
                        _figures(row),
                        _matched(row["match"]),
                        ", ".join(row["per"]) or "all together",
                        row["mode"],
                        row["source"],
                    )
                    for row in rows
                ],
            )

    run(work())


def _remove(session: Session, name: str, as_json: bool) -> None:
    from interlock.flows.limit_views import rule_view

    async def work() -> None:
        async with session.open() as app:
            removed = await app.parts.limits.remove(app.owner(), name)
            if as_json:
                emit(rule_view(removed))
            elif removed.replaces:
                click.echo(f"{name} is removed; the one of interlock.yaml holds again")
            else:
                click.echo(f"{name} is removed")

    run(work())


def _usage(session: Session, name: str | None, as_json: bool, *, only_money: bool) -> None:
    from interlock.flows.limit_views import use_view

    async def work() -> None:
        async with session.open() as app:
            used = await app.parts.limits.use(app.owner(), name)
            rows = [use_view(one) for one in used if one.measure == "money" or not only_money]
            if as_json:
                emit(rows)
                return
            table(
                ["limit", "of", "used", "limit at", "share", "per", "state"],
                [
                    (
                        row["limit"],
                        ", ".join(f"{name}={value or '(none)'}" for name, value in row["scope"].items()) or "all",
                        _amount(row["used"], row["measure"]),
                        _amount(row["of"], row["measure"]),
                        f"{row['share']:.0%}",
                        row["per"],
                        row["state"],
                    )
                    for row in rows
                ],
                right=["used", "limit at", "share"],
            )

    run(work())


def _amount(value: str | int, measure: str) -> str:
    return f"${value}" if measure == "money" else f"{value:,} {measure}"


def _figures(row: dict[str, Any]) -> str:
    parts = [f"{row['requests']:,} requests" if row["requests"] is not None else ""]
    parts += [f"{row['tokens']:,} tokens" if row["tokens"] is not None else ""]
    parts += [f"${row['money']}" if row["money"] is not None else ""]
    over = f"per {row['window'] or row['period']}" if row["period"] != "total" else "in total"
    return f"{', '.join(filter(None, parts))} {over}"


def _matched(match: dict[str, Any]) -> str:
    tags = [f"tag {name}={value}" for name, value in match["tags"].items()]
    named = [f"{name} {value}" for name, value in match.items() if name != "tags" and value is not None]
    return ", ".join([*named, *tags]) or "every call"


def _tags(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter("written like NAME=VALUE", ctx, option)
        found[name] = value
    return found


# Any: click's decorators take and give whatever callable they are put on.
def _scope_options(command: Any) -> Any:
    for option in reversed(
        [
            click.option("--window", help="Sliding: 60s, 10m, 1h, 1d."),
            click.option("--period", help="Calendar: hour, day, week, month, or total for ever."),
            click.option("--timezone", help="Of the period, as Europe/Amsterdam (default UTC)."),
            click.option(
                "--per",
                multiple=True,
                help="A counter for each tenant, key, user, app, provider, model or tag:NAME; repeatable.",
            ),
            click.option("--key", help="Only calls of this key id; * matches anything, as below."),
            click.option("--user", help="Only calls for this proven end user."),
            click.option("--group", help="Only calls for a user of this group."),
            click.option("--app", help="Only calls of this app."),
            click.option("--provider", help="Only tries at this provider."),
            click.option("--model", help="Only tries of this 'provider/model'."),
            click.option("--tag", "tags", multiple=True, callback=_tags, help="Only calls labelled NAME=VALUE."),
            click.option("--soft", is_flag=True, help="Warn only."),
            click.option("--warn-at", type=float, help="Share at which it warns (default 0.8)."),
            click.option(
                "--allow-unpriced", is_flag=True, help="A money limit lets models without a price pass, at no cost."
            ),
        ]
    ):
        command = option(command)
    return command


def _rule(name: str, options: dict[str, Any]) -> dict[str, Any]:
    scopes = ("key", "user", "group", "app", "provider", "model", "tags")
    match = {scope: options[scope] for scope in scopes if options[scope]}
    return {
        "name": name,
        "match": match,
        "per": options["per"],
        "window": options["window"],
        "period": options["period"],
        "timezone": options["timezone"],
        "mode": "soft" if options["soft"] else None,
        "warn_at": options["warn_at"],
        "unpriced": "allow" if options["allow_unpriced"] else None,
    }


@click.group()
def limits() -> None:
    """Limit requests, tokens and money: who may use how much over which time."""


@limits.command("list")
@json_option
@pass_session
def list_limits(session: Session, as_json: bool) -> None:
    """All rules: those of interlock.yaml and those set while running."""
    _list(session, as_json, only_money=False)


@limits.command("set")
@click.argument("name")
@click.option("--requests", type=int, help="At most so many calls.")
@click.option("--tokens", type=int, help="At most so many tokens, read and written.")
@click.option("--money", help="At most so many US dollars.")
@_scope_options
@json_option
@pass_session
def set_limit(
    session: Session,
    /,
    name: str,
    requests: int | None,
    tokens: int | None,
    money: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Set the limit NAME, replacing one of that name. Audited; running servers take it over within seconds."""
    _set(session, as_json, {**_rule(name, options), "requests": requests, "tokens": tokens, "money": money})


@limits.command("remove")
@click.argument("name")
@json_option
@pass_session
def remove_limit(session: Session, name: str, as_json: bool) -> None:
    """Remove a limit that was set while running."""
    _remove(session, name, as_json)


@limits.command("usage")
@click.argument("name", required=False)
@json_option
@pass_session
def limit_usage(session: Session, name: str | None, as_json: bool) -> None:
    """How far each limit (or NAME) is used in its present window or period; all workers together."""
    _usage(session, name, as_json, only_money=False)


@limits.command("reconcile")
@click.option("--repair", is_flag=True, help="Put counters right, not only tell.")
@json_option
@pass_session
def reconcile_limits(session: Session, repair: bool, as_json: bool) -> None:
    """Compare counters with the ledger; exit 1 when they differ and are not put right.

    Lists the calls whose worker died before it was known how they ended: each is charged at its estimate.
    """
    from interlock.cost.reconcile import reconcile
    from interlock.flows.limit_views import reconciled_view
    from interlock.gateway.kept_lanes import KeptLanes

    async def work() -> bool:
        async with session.open() as app:
            found = await reconcile(
                app.parts.cost,
                app.sql,
                app.kv,
                app.parts.governance,
                app.owner(),
                journals=app.workspace.data / "journal",
                repair=repair,
                held=await KeptLanes(app.parts.kept).held(app.owner().tenant),
            )
            shown = reconciled_view(found)
            if as_json:
                emit(shown)
            else:
                _show_reconciled(shown)
            return any(row["state"] in {"below", "above"} for row in shown["counters"])

    if run(work()):
        raise click.exceptions.Exit(1)


def _show_reconciled(shown: dict[str, Any]) -> None:
    table(
        ["limit", "measure", "of", "counted", "ledger", "state"],
        [
            (row["limit"], row["measure"], row["scope"] or "all", row["counted"], row["ledger"], row["state"])
            for row in shown["counters"]
        ],
        right=["counted", "ledger"],
    )
    if shown["not_compared"]:
        click.secho(f"not in the ledger: {', '.join(shown['not_compared'])}", dim=True)
    if shown["busy"]:
        click.secho(f"counters above the ledger stay as they are: {shown['busy']}", dim=True)
    if shown["orphans"]:
        click.echo("\ncalls whose end nobody saw, charged at their estimate:")
        table(
            ["at", "model", "tokens", "cost", "trace"],
            [
                (o["at"][:19], f"{o['provider']}/{o['model']}", o["tokens"], o["cost_usd"] or "unpriced", o["trace_id"])
                for o in shown["orphans"]
            ],
            right=["tokens", "cost"],
        )


@click.group()
def budgets() -> None:
    """Limit money: rules as those of `limits`, on US dollars."""


@budgets.command("list")
@json_option
@pass_session
def list_budgets(session: Session, as_json: bool) -> None:
    """All rules on money."""
    _list(session, as_json, only_money=True)


@budgets.command("set")
@click.argument("name")
@click.argument("money")
@_scope_options
@json_option
@pass_session
def set_budget(session: Session, /, name: str, money: str, as_json: bool, **options: Any) -> None:
    """Set the budget NAME to MONEY US dollars a month, or over another --period or --window."""
    if options["window"] is None and options["period"] is None:
        options["period"] = "month"
    _set(session, as_json, {**_rule(name, options), "money": money.removeprefix("$")})


@budgets.command("remove")
@click.argument("name")
@json_option
@pass_session
def remove_budget(session: Session, name: str, as_json: bool) -> None:
    """Remove a budget that was set while running."""
    _remove(session, name, as_json)


@budgets.command("usage")
@click.argument("name", required=False)
@json_option
@pass_session
def budget_usage(session: Session, name: str | None, as_json: bool) -> None:
    """How far each budget (or NAME) is used."""
    _usage(session, name, as_json, only_money=True)
