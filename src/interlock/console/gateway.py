"""Gateway: how targets are doing, where routes lead, how far limits are used, what the register says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.access.service import MAY_SEE_KEYS
from interlock.console.rendering import render
from interlock.console.session import Caller, Form, form_of, page, text_field
from interlock.core.errors import InterlockError, InvalidInput
from interlock.cost.limits import LimitRule
from interlock.cost.rules import MAY_CHANGE, KnownRule, read_rule
from interlock.flows.limit_views import use_view
from interlock.flows.operations import (
    MAY_SEE_GATEWAY,
    MAY_TEST,
    ProviderProbe,
    app_targets,
    probe_provider,
    provider_register,
    provider_rows,
    route_rows,
)
from interlock.gateway.explain import TargetState, states
from interlock.http.callers import app_of

__all__ = ["routes"]

# Any in this module: rows of JSON, as the API shows them.
_OVERS = (
    ("60s", "any minute"),
    ("10m", "any ten minutes"),
    ("1h", "any hour"),
    ("1d", "any 24 hours"),
    ("hour", "each hour of the clock"),
    ("day", "each day"),
    ("week", "each week"),
    ("month", "each month"),
    ("total", "for ever"),
)
_PERIODS = frozenset({"hour", "day", "week", "month", "total"})
_PERS = ("key", "user", "app", "tenant", "model", "provider")


class LimitRow(NamedTuple):
    """One rule with its fullest counters."""

    known: KnownRule
    uses: Sequence[Mapping[str, Any]]
    more: int
    """Counters that are not shown."""


_SHOWN_USES = 5
_BLANK: Mapping[str, str] = {
    "name": "",
    "requests": "",
    "tokens": "",
    "money": "",
    "over": "month",
    "per": "",
    "app": "",
    "key": "",
    "model": "",
    "mode": "hard",
}


async def show(request: Request, caller: Caller) -> Response:
    """``GET /gateway``; with `change`, the form holds that limit."""
    values = dict(_BLANK)
    change = request.query_params.get("change")
    if change:
        values = _values_of(app_of(request).parts.limits.get(caller.ctx, change).rule)
    return await _page(request, caller, values=values)


async def put(request: Request, caller: Caller) -> Response:
    """``POST /gateway/limits``: what was typed is kept when it is refused."""
    form = await form_of(request)
    values = {name: text_field(form, name)[:200] for name in _BLANK}
    try:
        caller.ctx.require(*MAY_CHANGE)
        await app_of(request).parts.limits.put(caller.ctx, read_rule(_rule_of(form)))
    except InvalidInput as error:
        return await _page(request, caller, values=values, error=error, status=error.status)
    return RedirectResponse("/gateway#limits", 303)


async def confirm(request: Request, caller: Caller) -> Response:
    """``GET /gateway/limits/{name}/remove``: asks once, naming the limit."""
    caller.ctx.require(*MAY_CHANGE)
    known = app_of(request).parts.limits.get(caller.ctx, request.path_params["name"])
    return render(request, caller, "limit-remove.html", known=known, figures=figures_of(known.rule))


async def remove(request: Request, caller: Caller) -> Response:
    """``POST /gateway/limits/{name}/remove``."""
    await app_of(request).parts.limits.remove(caller.ctx, request.path_params["name"])
    return RedirectResponse("/gateway#limits", 303)


async def probe(request: Request, caller: Caller) -> Response:
    """``POST /gateway/providers/{name}/test``."""
    found = await probe_provider(app_of(request).parts, caller.ctx, request.path_params["name"])
    return await _page(request, caller, values=dict(_BLANK), probed=found)


async def _page(
    request: Request,
    caller: Caller,
    *,
    values: Mapping[str, str],
    error: InterlockError | None = None,
    probed: ProviderProbe | None = None,
    status: int = 200,
) -> Response:
    caller.ctx.require(*MAY_SEE_GATEWAY)
    parts = app_of(request).parts
    targets, others = states(parts.gateway, app_targets(parts))
    registered = provider_register(parts, caller.ctx)
    limits = await _limits(request, caller)
    return render(
        request,
        caller,
        "gateway.html",
        status=status,
        headline=_headline(targets, limits),
        targets=[state for state in targets if state.calls],
        others=others,
        failed_share=failed_share,
        verdict_of=verdict_of,
        scope_of=scope_of,
        key_names=await _key_names(request, caller),
        routes=route_rows(parts, caller.ctx),
        limits=limits,
        register=registered,
        providers=provider_rows(parts, caller.ctx),
        probed=probed,
        values=values,
        error=error,
        overs=_OVERS,
        pers=_PERS,
        figures_of=figures_of,
        matched_of=matched_of,
        amount=amount,
        is_simple=is_simple,
        may_change=caller.has(*MAY_CHANGE),
        may_test=caller.has(*MAY_TEST),
        generation=parts.gateway.generation,
    )


async def _key_names(request: Request, caller: Caller) -> dict[str, str]:
    """Names of keys by id; empty for those who may not see keys."""
    if not caller.has(*MAY_SEE_KEYS):
        return {}
    return {key.id: key.name for key in await app_of(request).parts.access.keys(caller.ctx)}


async def _limits(request: Request, caller: Caller) -> list[LimitRow]:
    limits = app_of(request).parts.limits
    uses = [use_view(use) for use in await limits.use(caller.ctx)]
    rows = []
    for known in limits.list(caller.ctx):
        mine = sorted((use for use in uses if use["limit"] == known.rule.name), key=lambda use: -use["share"])
        rows.append(LimitRow(known, mine[:_SHOWN_USES], max(0, len(mine) - _SHOWN_USES)))
    return rows


def _headline(targets: Sequence[TargetState], limits: Sequence[LimitRow]) -> str:
    asked = [state for state in targets if state.calls]
    resting = [state for state in asked if state.breaker != "closed"]
    verdicts = [verdict_of(state).said for state in asked]
    silent, failing = verdicts.count("fails"), verdicts.count("some fail")
    full = [row for row in limits if row.known.rule.mode == "hard" and any(use["share"] >= 1 for use in row.uses)]
    if resting:
        return f"{len(resting)} of {len(asked)} targets {'rests' if len(resting) == 1 else 'rest'} after failures"
    if full:
        return f"{len(full)} limit{' is' if len(full) == 1 else 's are'} reached"
    if silent:
        return f"{silent} of {len(asked)} targets {'does' if silent == 1 else 'do'} not answer"
    if failing:
        return f"{failing} of {len(asked)} targets {'fails' if failing == 1 else 'fail'} some calls"
    if waiting := verdicts.count("asked to wait"):
        return f"{waiting} of {len(asked)} targets {'asks' if waiting == 1 else 'ask'} us to wait"
    return "Every target that was asked answers" if asked else "No target was asked yet"


class Verdict(NamedTuple):
    """How a target is doing, in a word or two."""

    said: str
    colour: str
    """A signal of the style sheet."""


_SILENT_AFTER = 3
"""So many calls in a row without an answer, and a target counts as silent, whatever it answered before."""


def verdict_of(state: TargetState) -> Verdict:
    """A target that answered none of its calls, or none of its last few, is not shown as one that answers: also when
    the failures are an hour old, and when its provider's limits turned them away.
    """
    if state.breaker != "closed":
        return Verdict("rests", "danger") if state.breaker == "open" else Verdict("is probed", "caution")
    is_silent = state.unanswered > 0 and failed_share(state) == 1 and not state.cooling
    if is_silent or state.unanswered >= _SILENT_AFTER:
        return Verdict("fails", "danger")
    if state.cooling:
        return Verdict("asked to wait", "caution")
    if state.unanswered or state.error_rate > 0:
        return Verdict("some fail", "caution")
    return Verdict("answers", "clear")


def scope_of(use: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What a counter counts, as people know it: a key by its name and its id.

    >>> scope_of({"scope": {"key": "key_1", "app": ""}}, {"key_1": "batch"})
    'batch (key_1), (none)'
    """
    said = []
    for kind, value in use["scope"].items():
        name = names.get(value) if kind == "key" else None
        said.append(f"{name} ({value})" if name else value or "(none)")
    return ", ".join(said)


def failed_share(state: TargetState) -> float:
    """Share of the calls since the start that failed or were turned away by the provider's limits, 0 to 1."""
    ended = state.calls - state.in_flight
    return min(1.0, (state.failures + state.rejected) / ended) if ended > 0 else 0.0


def figures_of(rule: LimitRule) -> str:
    """``100 requests, $5 each month``."""
    parts = [f"{rule.requests:,} request{'' if rule.requests == 1 else 's'}" if rule.requests is not None else ""]
    parts += [f"{rule.tokens:,} tokens" if rule.tokens is not None else ""]
    parts += [f"${rule.money}" if rule.money is not None else ""]
    over = dict(_OVERS).get(rule.window or rule.period or "", f"any {rule.window}")
    return f"{', '.join(filter(None, parts))}, {over}"


def matched_of(rule: LimitRule) -> str:
    """Which calls it is about, in words."""
    match = rule.match.model_dump(exclude_none=True)
    tags = [f"{name} = {value}" for name, value in match.pop("tags", {}).items()]
    said = ", ".join([*(f"{name} {value}" for name, value in match.items()), *tags]) or "every call"
    return f"{said}, for each {' and '.join(rule.per)}" if rule.per else said


def amount(use: Mapping[str, Any], name: str) -> str:
    """A figure of a counter with its unit."""
    value = use[name]
    return f"${value}" if use["measure"] == "money" else f"{value:,}"


def _rule_of(form: Form) -> dict[str, Any]:
    over = text_field(form, "over")
    per = text_field(form, "per")
    rule: dict[str, Any] = {"name": text_field(form, "name"), "mode": text_field(form, "mode") or "hard"}
    rule["period" if over in _PERIODS else "window"] = over
    rule |= {name: text_field(form, name) for name in ("requests", "tokens") if text_field(form, name)}
    if money := text_field(form, "money").removeprefix("$"):
        rule["money"] = money
    if per:
        rule["per"] = [per]
    rule["match"] = {name: text_field(form, name) for name in ("app", "key", "model") if text_field(form, name)}
    return rule


def _values_of(rule: LimitRule) -> dict[str, str]:
    figures = {"requests": rule.requests, "tokens": rule.tokens, "money": rule.money}
    return {
        **_BLANK,
        "name": rule.name,
        **{name: "" if value is None else str(value) for name, value in figures.items()},
        "over": rule.window or rule.period or "month",
        "per": rule.per[0] if rule.per else "",
        "app": rule.match.app or "",
        "key": rule.match.key or "",
        "model": rule.match.model or "",
        "mode": rule.mode,
    }


def is_simple(rule: LimitRule) -> bool:
    """True when the form can hold all of it; others are changed on the command line."""
    match = rule.match
    return (
        len(rule.per) <= 1
        and all(scope in _PERS for scope in rule.per)
        and not match.tags
        and match.user is None
        and match.group is None
        and match.provider is None
        and rule.timezone == "UTC"
        and rule.warn_at == LimitRule.model_fields["warn_at"].default
        and rule.unpriced == "refuse"
        and (rule.window or rule.period) in dict(_OVERS)
    )


routes = [
    Route("/gateway", page(show)),
    Route("/gateway/limits", page(put), methods=["POST"]),
    Route("/gateway/limits/{name}/remove", page(confirm)),
    Route("/gateway/limits/{name}/remove", page(remove), methods=["POST"]),
    Route("/gateway/providers/{name}/test", page(probe), methods=["POST"]),
]
