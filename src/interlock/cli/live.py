"""`interlock verify-live`: the golden set against a live endpoint, under a spending cap."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.errors import BudgetExceeded, InvalidInput
from interlock.core.messages import Usage
from interlock.core.money import Money

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.core.release import Release
    from interlock.evals.golden.types import CaseOutcome

__all__ = ["verify_live"]

_PROVIDER = "live"
_WORST = Usage(input_tokens=6_000, output_tokens=600)
"""More than one question of the demo can use: what must still fit under the cap before it is asked."""


@click.command("verify-live")
@click.argument("model")
@click.option("--kind", type=click.Choice(["openai", "anthropic"]), default="openai", show_default=True)
@click.option("--base-url", help="Endpoint, with its version segment (default: the provider's own).")
@click.option("--api-key-env", help="Environment variable with the key (default: OPENAI_API_KEY or ANTHROPIC_API_KEY).")
@click.option("--no-key", is_flag=True, help="The endpoint needs no key.")
@click.option("--app", "app_name", default="handbook", show_default=True)
@click.option("--cap-usd", default="1.00", show_default=True, help="Stop before spending more than this.")
@click.option("--price", nargs=2, metavar="IN OUT", help="US dollars per million tokens, for a model nobody lists.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N questions.")
@json_option
@pass_session
def verify_live(
    session: Session,
    model: str,
    kind: str,
    base_url: str | None,
    api_key_env: str | None,
    no_key: bool,
    app_name: str,
    cap_usd: str,
    price: tuple[str, str] | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Run the app's golden set with MODEL of an OpenAI- or Anthropic-compatible endpoint. Costs real money."""
    key = None if no_key else api_key_env or ("OPENAI_API_KEY" if kind == "openai" else "ANTHROPIC_API_KEY")
    provider: dict[str, Any] = {"kind": kind, "models": [model]}  # Any: settings before validation
    provider |= {"base_url": base_url} if base_url else {}
    provider |= {"api_key_env": key} if key else {}
    session.flags.setdefault("gateway", {}).setdefault("providers", {})[_PROVIDER] = provider
    if price:
        prices = session.flags.setdefault("cost", {}).setdefault("prices", {})
        prices[f"{_PROVIDER}/*"] = {"input_per_million": price[0], "output_per_million": price[1]}
    try:
        cap = Money.of(cap_usd)
    except ArithmeticError as error:
        raise InvalidInput(f"--cap-usd is an amount like 0.50, not {cap_usd!r}", param="--cap-usd") from error
    run(_verify(session, model, app_name, cast("Literal['openai', 'anthropic']", kind), cap, limit, as_json=as_json))


async def _verify(
    session: Session,
    model: str,
    app_name: str,
    kind: Literal["openai", "anthropic"],
    cap: Money,
    limit: int | None,
    *,
    as_json: bool,
) -> None:
    from interlock.cli.knowledge import ingest_collection
    from interlock.evals.golden.judging import percentile, rates, read_golden

    async with session.open() as app:
        folder = app.workspace.path(f"{app.workspace.settings.apps_dir}/{app_name}")
        cases = read_golden(folder / "evals" / "golden.jsonl")[:limit]
        for name in app.ingested_collections():
            await ingest_collection(app, name, quiet=True)
        worst = app.parts.cost.prices.price(_PROVIDER, model, _WORST)
        if worst is None:
            raise InvalidInput(
                f"nobody lists a price for {model!r}, so a cap cannot be kept",
                param="model",
                hint="give one: --price IN OUT (US dollars per million tokens; 0 0 for your own machine)",
            )
        release = _with_model(app.parts.releases.live(app_name), f"{_PROVIDER}/{model}")
        outcomes, spent = await _ask_all(app, release, cases, cap, worst, quiet=as_json)
        found = rates(outcomes)
        seconds = [o.seconds for o in outcomes]
        if as_json:
            emit(
                {
                    "model": model,
                    "kind": kind,
                    "asked": len(outcomes),
                    "of": len(cases),
                    "spent_usd": f"{spent.decimal():f}",
                    "p95_s": percentile(seconds, 0.95) if seconds else None,
                    "rates": [{**r._asdict(), "interval": list(r.interval)} for r in found],
                }
            )
            return
        table(
            ["rate", "value", "95 % interval", "of"],
            [(r.name, f"{r.value:.1%}", f"{r.interval.low:.1%} – {r.interval.high:.1%}", r.trials) for r in found],
            right=["value", "of"],
        )
        click.echo(f"\n{len(outcomes)} of {len(cases)} questions, {spent} spent of {cap}")


def _with_model(release: Release, target: str) -> Release:
    from interlock.releases.service import manifest_of

    route = {**release.components["route"], "targets": [target]}
    components = {**release.components, "route": route, "models": {}}
    release_id, manifest = manifest_of(components)
    return replace(release, id=release_id, components=components, digests=manifest)


async def _ask_all(
    app: App, release: Release, cases: list[Any], cap: Money, worst: Money, *, quiet: bool
) -> tuple[list[CaseOutcome], Money]:
    from interlock.flows.evaluate import run_golden

    spent = Money.zero()
    outcomes: list[CaseOutcome] = []
    for case in cases:
        if spent + worst > cap:
            if not outcomes:
                raise BudgetExceeded(f"one question may cost {worst}, more than the cap of {cap}", param="--cap-usd")
            click.secho(f"stopped before the cap of {cap}: {spent} spent", fg="yellow", err=True)
            break
        async for outcome in run_golden(app.parts, release, [case]):
            outcomes.append(outcome)
            # A call whose cost is not known is taken at its worst: the cap must hold.
            spent += worst if outcome.cost_nano is None else Money(outcome.cost_nano)
            if not quiet:
                mark = outcome.error or (outcome.answer.outcome if outcome.answer else "")
                click.echo(f"{case.id}  {mark:10} {outcome.seconds:5.1f} s  {spent}", err=True)
    return outcomes, spent
