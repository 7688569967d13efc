"""What operators look at: where a request would go and why, which providers answer, how far limits are used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec

from interlock.core.clock import Deadline, now
from interlock.core.context import Context, EndUser, Role
from interlock.core.errors import DeadlineExceeded, InterlockError, NotFound
from interlock.core.ids import KeyId, PrincipalId
from interlock.core.messages import ChatRequest, Usage, text_message
from interlock.cost.admission import Demand
from interlock.cost.limits import Subject
from interlock.flows.chat import chat
from interlock.flows.parts import Parts
from interlock.gateway.checking import targets_of
from interlock.gateway.explain import Explained, TargetState, Why, explain, told_by_name
from interlock.gateway.register import Registered, register
from interlock.gateway.routing import USUAL_OUTPUT_TOKENS, Need
from interlock.gateway.types import Approval, RouteSpec, Target

__all__ = [
    "MAY_SEE_GATEWAY",
    "MAY_TEST",
    "Asking",
    "ProviderProbe",
    "RouteAnswer",
    "app_targets",
    "explain_route",
    "probe_provider",
    "provider_register",
    "provider_rows",
    "registered_view",
    "route_answer_view",
    "route_rows",
    "state_view",
]

# Any in this module: JSON objects on their way out.
MAY_SEE_GATEWAY = (Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
MAY_TEST = (Role.DEVELOPER, Role.OPERATOR)
_TEST_S = 20.0


# ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Asking:
    """A request that is only thought of."""

    model: str
    tools: bool = False
    images: bool = False
    schema: bool = False
    input_tokens: int = 0
    output_tokens: int | None = None
    """None: as many as the route allows."""
    regions: tuple[str, ...] = ()
    key: str = ""
    """Id of the key that would ask; empty: the caller's own."""
    user: str = ""
    app: str = ""
    tags: Mapping[str, str] | None = None


class RouteAnswer(NamedTuple):
    """An explanation, and the limits that each of its targets would meet."""

    explained: Explained
    refusing: Mapping[str, Sequence[str]]
    """Target to the names of the hard limits that would refuse the call there now."""


async def explain_route(parts: Parts, ctx: Context, asking: Asking) -> RouteAnswer:
    """Where a request would go now, and why not elsewhere. Sends nothing, counts nothing.

    Raises: Forbidden, NotFound.
    """
    ctx.require(*MAY_SEE_GATEWAY)
    if asking.key:
        ctx = replace(ctx, principal=replace(ctx.principal, id=PrincipalId(asking.key), key_id=KeyId(asking.key)))
    if asking.user:
        ctx = ctx.on_behalf_of(EndUser(asking.user))
    app, route = asking.app, None
    if asking.model.startswith("app/"):
        release = await parts.releases.resolve(ctx, asking.model)
        app, route = release.app, RouteSpec.model_validate(release.components["route"], extra="ignore")
    route = route or parts.gateway.route(asking.model)
    need = Need(
        tools=asking.tools,
        images=asking.images,
        json_schema=asking.schema,
        input_tokens=asking.input_tokens,
        output_tokens=route.limit(asking.output_tokens) or USUAL_OUTPUT_TOKENS,
    )
    key = ctx.principal.key_id or ctx.principal.id
    groups = ctx.end_user.groups if ctx.end_user else frozenset()
    subject = Subject(ctx.tenant, key, asking.user, groups, app=app, tags=asking.tags or {})
    pressure = parts.cost.admission.pressure(subject)
    found = explain(parts.gateway, ctx, asking.model, need, route=route, regions=asking.regions, pressure=pressure)
    refusing: dict[str, Sequence[str]] = {}
    for row in (*found.targets, *found.last_resort):
        target = Target.parse(row.target)
        usage = Usage(need.input_tokens, need.output_tokens)
        demand = Demand(usage.total_tokens, parts.cost.prices.price(target.provider, target.model, usage))
        at = msgspec.structs.replace(subject, provider=target.provider, model=target.model)
        refusing[row.target] = await parts.cost.admission.short(at, demand)
    return RouteAnswer(found, refusing)


def route_answer_view(answer: RouteAnswer) -> dict[str, Any]:
    """An explanation as JSON."""
    found = answer.explained
    return {
        "model": found.model,
        "strategy": found.strategy,
        "chosen": found.chosen,
        "regions": [list(regions) for regions in found.regions],
        "pressure": round(found.pressure, 4),
        "downgraded": found.downgraded,
        "targets": [_why_view(row, answer.refusing) for row in found.targets],
        "last_resort": [_why_view(row, answer.refusing) for row in found.last_resort],
    }


def _why_view(row: Why, refusing: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {
        "target": row.target,
        "position": row.position,
        "code": row.code or None,
        "reason": row.reason or None,
        "warnings": list(row.warnings),
        "limits": list(refusing.get(row.target, ())),
        "tier": row.profile.tier,
        "context_tokens": row.profile.context_tokens,
        "tools": row.profile.tools,
        "images": row.profile.images,
        "json_schema": row.profile.json_schema,
        "price_per_million_usd": None if row.price_per_million is None else f"{row.price_per_million:f}",
        "approval": _approval_view(row.approval),
        "state": state_view(row.state),
    }


def state_view(state: TargetState) -> dict[str, Any]:
    """How a target is doing."""
    return {
        "breaker": state.breaker,
        "cooling": state.cooling,
        "first_token_ms": None if state.latency_s is None else round(state.latency_s * 1000, 1),
        "error_rate": round(state.error_rate, 4),
        "in_flight": state.in_flight,
        "queued": state.queued,
        "calls": state.calls,
        "failures": state.failures,
        "rate_limited": state.rejected,
        "unanswered_in_a_row": state.unanswered,
        "last_error": state.last_error or None,
    }


def route_rows(parts: Parts, ctx: Context) -> list[dict[str, Any]]:
    """Named routes and those of apps: targets with their state and what stands against them now. Raises: Forbidden."""
    ctx.require(*MAY_SEE_GATEWAY)
    nothing = Need(False, False, False, 0, 1)
    rows: list[dict[str, Any]] = []
    for name, route in (*((f"route/{n}", r) for n, r in parts.gateway.routes.items()), *app_routes(parts)):
        try:
            found = explain(parts.gateway, ctx, name, nothing, route=route)
        except InterlockError as error:
            rows.append({"name": name, "strategy": route.strategy, "error": error.message, "targets": []})
            continue
        rows.append(
            {
                "name": name,
                "strategy": route.strategy,
                "sticky": route.sticky,
                "error": None,
                "targets": [
                    {
                        "target": row.target,
                        "position": row.position,
                        "weight": route.weights.get(row.target, 1.0) if route.strategy == "weighted" else None,
                        "code": row.code or None,
                        "reason": row.reason or None,
                        "warnings": list(row.warnings),
                        "state": state_view(row.state),
                    }
                    for row in found.targets
                ],
            }
        )
    return rows


def app_routes(parts: Parts) -> list[tuple[str, RouteSpec]]:
    """``app/NAME`` and the route in its file; an app whose file is broken is left out, `doctor` tells of it."""
    found = []
    for source in parts.releases.apps():
        try:
            found.append((f"app/{source.name}", RouteSpec.model_validate(source.load()["route"])))
        except InterlockError:
            continue
    return found


def app_targets(parts: Parts) -> list[str]:
    """What the routes of apps may send a request to."""
    return [target for _, route in app_routes(parts) for _, target in targets_of(route)]


# ── providers ─────────────────────────────────────────────────────────────────────────────────────────────────────


def provider_register(parts: Parts, ctx: Context) -> list[Registered]:
    """The register, for every target that is configured or used. Raises: Forbidden."""
    ctx.require(*MAY_SEE_GATEWAY)
    return register(parts.gateway.settings, now().date(), apps=app_routes(parts))


def registered_view(row: Registered) -> dict[str, Any]:
    """One line of the register."""
    return {
        "target": row.target,
        "state": row.state,
        "reason": row.reason or None,
        "used_by": list(row.used_by),
        **(_approval_view(row.approval) or dict.fromkeys(_approval_view(Approval()) or ())),
    }


def _approval_view(approval: Approval | None) -> dict[str, Any] | None:
    return None if approval is None else approval.model_dump(mode="json")


def provider_rows(parts: Parts, ctx: Context) -> list[dict[str, Any]]:
    """Configured providers with what is going on at each; never an address's password or a key. Raises: Forbidden."""
    ctx.require(*MAY_SEE_GATEWAY)
    gateway = parts.gateway
    named = told_by_name(gateway, app_targets(parts))
    rows = []
    for name, entry in gateway.settings.providers.items():
        queue = gateway.attempts.queues.get(name)
        rows.append(
            {
                "name": name,
                "kind": entry.kind,
                "models": list(entry.models),
                "in_use": name in gateway.opened,
                "busy": queue.busy if queue else 0,
                "queued": queue.waiting if queue else 0,
                "shed": queue.shed if queue else 0,
                "max_concurrency": entry.max_concurrency or None,
                "targets": sorted(known for known in named if Target.parse(known).provider == name),
                "other_names": sum(
                    Target.parse(known).provider == name for known in set(gateway.health.targets) - named
                ),
            }
        )
    return rows


class ProviderProbe(NamedTuple):
    """What one provider answered."""

    name: str
    kind: str
    ok: bool
    how: str
    """``list``: it was asked for its models; ``call``: a model answered."""
    model: str
    """That was called; empty for a list."""
    models: int | None
    """How many it lists."""
    latency_ms: float
    code: str
    message: str
    hint: str


async def probe_provider(parts: Parts, ctx: Context, name: str, *, model: str | None = None) -> ProviderProbe:
    """Ask one provider now: for its models, or a model for a word.

    The list is asked from the provider even when `models` names them, so that a wrong key is found; a provider that
    has no list is called with its first configured model. A call is charged like any other.

    Args:
        model: call this one.

    Raises: Forbidden, NotFound.
    """
    ctx.require(*MAY_TEST)
    settings = parts.gateway.settings.providers.get(name)
    if settings is None:
        raise NotFound(
            f"no provider named {name[:64]!r}", param="name", hint=f"known: {', '.join(parts.gateway.provider_names)}"
        )
    began = time.perf_counter()
    error: InterlockError | None = None
    how, models = "call" if model else "list", None
    try:
        async with asyncio.timeout(_TEST_S):
            if model is None:
                listed = await _listed(parts, name)
                models = len(listed)
                if not listed and settings.models:
                    how, model, models = "call", settings.models[0], None
            if model is not None:
                await _call(parts, ctx, f"{name}/{model}")
    except InterlockError as failed:
        error = failed
    except TimeoutError:
        error = DeadlineExceeded(f"it did not answer within {_TEST_S:.0f} s")
    return ProviderProbe(
        name=name,
        kind=settings.kind,
        ok=error is None,
        how=how,
        model=model or "",
        models=models,
        latency_ms=round((time.perf_counter() - began) * 1000, 1),
        code=error.code if error else "",
        message=error.message if error else "",
        hint=(error.hint or "") if error else "",
    )


async def _listed(parts: Parts, name: str) -> Sequence[str]:
    settings = parts.gateway.settings.providers[name]
    provider = parts.gateway.build(name, settings.model_copy(update={"models": []}))
    try:
        return await provider.models()
    finally:
        await provider.close()


async def _call(parts: Parts, ctx: Context, model: str) -> None:
    ctx = ctx.with_deadline(Deadline.after(_TEST_S))
    request = ChatRequest(model, (text_message("user", "Answer with the word ok."),), max_output_tokens=16)
    async with aclosing(chat(parts, ctx, request, None)) as events:
        async for _ in events:
            pass
