"""Which targets may serve, in which order, and why the others may not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.context import Context, EndUser, Principal
from interlock.core.errors import Forbidden, ProviderError
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.messages import ChatRequest, ImagePart, Message, TextDelta, TextPart, ToolSpec, text_message
from interlock.core.money import Money
from interlock.gateway.explain import explain
from interlock.gateway.health import Health
from interlock.gateway.register import register
from interlock.gateway.routing import Conditions, Facts, Need, approval_of, need_of, plan
from interlock.gateway.service import Gateway, Served
from interlock.gateway.settings import GatewaySettings, ProviderSettings
from interlock.gateway.types import Approval, ModelFacts, RouteSpec, Target
from interlock.testing.providers import caller, deps

TODAY = date(2026, 11, 22)
NOTHING = Need(tools=False, images=False, json_schema=False, input_tokens=0, output_tokens=10)


class Book:
    """Dollars for a call, by model; others are unpriced."""

    def __init__(self, **dollars):
        self.dollars = dollars

    def price(self, provider, model, usage):
        return Money.of(Decimal(str(self.dollars[model]))) if model in self.dollars else None


def health(clock=lambda: 100.0):
    return Health(failures=2, failure_rate=0.5, window_s=30, pause_s=5, max_pause_s=60, clock=clock)


def facts(draw=lambda: 0.5, **given):
    return Facts(today=lambda: TODAY, draw=draw, **given)


def order(route, *, need=NOTHING, known=None, given=None, **more):
    return [str(target) for target in plan(route, need, known or health(), given or facts(), **more).order]


def refused(route, *, need=NOTHING, known=None, given=None, **more):
    found = plan(route, need, known or health(), given or facts(), **more)
    return {row.target: row.code for row in found.refused}


# ── what must hold ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_that_must_stay_in_a_region_is_refused_rather_than_moved():
    register = {"a/x": Approval(regions=["us"]), "b/x": Approval(regions=["eu"]), "c/x": Approval(regions=["eu", "us"])}
    route = RouteSpec(targets=["a/x", "b/x", "c/x", "d/x"])
    where = Conditions(regions=(("eu",),))
    assert order(route, given=facts(register=register), conditions=where) == ["b/x"]
    assert refused(route, given=facts(register=register), conditions=where) == dict.fromkeys(
        ["a/x", "c/x", "d/x"], "region"
    )


def test_regions_of_tenant_route_and_request_all_hold():
    register = {"a/x": Approval(regions=["eu"]), "b/x": Approval(regions=["de"])}
    route = RouteSpec(targets=["a/x", "b/x"], require={"regions": ["eu", "de"]})
    both = Conditions(regions=(("eu", "de"), ("de",)))
    assert order(route, given=facts(register=register), conditions=both) == ["b/x"]
    none = Conditions(regions=(("de",), ("eu",)))
    assert order(route, given=facts(register=register), conditions=none) == []


@pytest.mark.parametrize(
    ("require", "approval", "code"),
    [
        ({"use": "internal"}, {"uses": ["public"]}, "use"),
        ({"use": "internal"}, None, "use"),
        ({"max_retention_days": 0}, {"retention_days": 30}, "retention"),
        ({"max_retention_days": 30}, {}, "retention"),
        ({"no_training": True}, {"trains_on_data": True}, "training"),
        ({"no_training": True}, {}, "training"),
        ({}, {"deprecated_on": "2026-11-22"}, "deprecated"),
        ({"max_price_per_million": "1"}, {}, "price"),
        ({"min_context_tokens": 10_000_000}, {}, "context"),
    ],
)
def test_the_register_and_the_requirements_refuse_with_their_reason(require, approval, code):
    route = RouteSpec(targets=["a/x"], require=require)
    known = {} if approval is None else {"a/x": Approval(**approval)}
    found = plan(route, NOTHING, health(), facts(register=known, prices=Book(x=5)))
    assert [row.code for row in found.refused] == [code]
    assert found.refused[0].reason


def test_what_meets_the_requirements_serves():
    good = Approval(uses=["internal"], retention_days=0, trains_on_data=False, deprecated_on="2026-11-23")
    needs = {"use": "internal", "max_retention_days": 0, "no_training": True, "max_price_per_million": "5"}
    route = RouteSpec(targets=["a/x"], require=needs)
    assert order(route, given=facts(register={"a/x": good}, prices=Book(x=5))) == ["a/x"]


def test_what_the_register_does_not_name_is_refused_when_it_must():
    route = RouteSpec(targets=["a/x", "b/y"])
    strict = facts(register={"b/*": Approval()}, must_be_approved=True)
    assert order(route, given=strict) == ["b/y"]
    assert refused(route, given=strict) == {"a/x": "unregistered"}


def test_the_most_specific_entry_of_the_register_counts():
    known = {"*": Approval(note="all"), "a/*": Approval(note="a"), "a/x": Approval(note="ax")}
    found = {name: approval_of(known, Target.parse(name)).note for name in ("a/x", "a/y", "b/z")}
    assert found == {"a/x": "ax", "a/y": "a", "b/z": "all"}


def test_images_and_tools_need_a_model_that_takes_them():
    route = RouteSpec(targets=["local/smollm2-135m-instruct", "openai/gpt-4o"], require={"tools": True})
    seen = ChatRequest("m", (Message("user", (TextPart("what is this"), ImagePart("image/png", data=b"x"))),))
    need = need_of(seen, route)
    assert need.images
    assert order(route, need=need) == ["openai/gpt-4o"]
    assert set(refused(route, need=need).values()) <= {"tools", "images"}


def test_a_request_that_certainly_does_not_fit_is_passed_over():
    route = RouteSpec(targets=["local/smollm2-135m-instruct", "openai/gpt-4.1"])
    need = replace(NOTHING, input_tokens=200_000)
    assert refused(route, need=need) == {"local/smollm2-135m-instruct": "context"}


def test_what_a_request_needs_is_read_off_its_parts():
    tool = ToolSpec("f", "does", {"type": "object"})
    request = ChatRequest("m", (text_message("user", "x" * 300),), tools=(tool,), response_schema={"type": "object"})
    need = need_of(request, RouteSpec(targets=["a/x"], max_output_tokens=77))
    assert (need.tools, need.images, need.json_schema, need.output_tokens) == (True, False, True, 77)
    assert need.input_tokens >= 100


# ── order ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cheapest_first_and_unpriced_last():
    route = RouteSpec(targets=["a/unknown", "a/dear", "a/cheap"], strategy="cost")
    assert order(route, given=facts(prices=Book(dear=2, cheap=1))) == ["a/cheap", "a/dear", "a/unknown"]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_weights_are_shares(first, second, seed):
    import random

    draws = random.Random(seed)
    route = RouteSpec(targets=["a/x", "b/x"], strategy="weighted", weights={"a/x": first, "b/x": second})
    runs = 400
    count = Counter(order(route, given=facts(draw=draws.random))[0] for _ in range(runs))
    share = first / (first + second)
    # Five standard deviations: a right implementation fails once in a million runs.
    assert abs(count["a/x"] / runs - share) < 5 * (share * (1 - share) / runs) ** 0.5 + 1e-9


def test_a_target_without_weight_waits_for_all_others():
    route = RouteSpec(targets=["a/x", "b/x", "c/x"], strategy="weighted", weights={"a/x": 0})
    import random

    draws = random.Random(1)
    assert {order(route, given=facts(draw=draws.random))[-1] for _ in range(50)} == {"a/x"}


@given(st.text(min_size=1), st.sampled_from(["weighted", "latency"]))
def test_a_unit_keeps_its_target_and_another_leaving_moves_only_its_own(unit, strategy):
    names = ["a/x", "b/x", "c/x", "d/x"]
    route = RouteSpec(targets=names, strategy=strategy)
    chosen = order(route, unit=unit)
    assert chosen == order(route, unit=unit, given=facts(draw=lambda: 0.123))
    if strategy == "weighted":
        without = route.model_copy(update={"targets": [name for name in names if name != chosen[-1]]})
        assert order(without, unit=unit)[0] == chosen[0]


def test_the_faster_of_two_drawn_goes_first_and_failing_counts_as_slow():
    route = RouteSpec(targets=["a/x", "b/x"], strategy="latency")
    known = health()
    for name, waited in (("a/x", 0.3), ("b/x", 0.1)):
        known.of(name).begin(100)
        known.of(name).first_token(100, waited)
        known.of(name).succeeded(100)
    assert order(route, known=known)[0] == "b/x"
    known.of("b/x").begin(100)
    known.of("b/x").failed(100, ProviderError("x", provider="b", upstream_status=500))
    assert order(route, known=known)[0] == "a/x"


def test_calls_in_flight_make_a_target_slower():
    route = RouteSpec(targets=["a/x", "b/x"], strategy="latency")
    known = health()
    for name in ("a/x", "b/x"):
        known.of(name).begin(100)
        known.of(name).first_token(100, 0.2)
        known.of(name).succeeded(100)
    for _ in range(3):
        known.of("a/x").begin(100)
    assert order(route, known=known)[0] == "b/x"


def test_a_full_budget_lets_the_cheapest_go_first():
    route = RouteSpec(targets=["a/dear", "a/cheap"], downgrade_at=0.8)
    book = facts(prices=Book(dear=2, cheap=1))
    assert order(route, given=book, conditions=Conditions(pressure=0.79)) == ["a/dear", "a/cheap"]
    assert order(route, given=book, conditions=Conditions(pressure=0.8)) == ["a/cheap", "a/dear"]


def test_a_resting_target_is_refused_and_one_that_asked_to_wait_comes_last():
    clock = [100.0]
    known = health(lambda: clock[0])
    for _ in range(2):
        known.of("a/x").begin(100)
        known.of("a/x").failed(100, ProviderError("x", provider="a", upstream_status=503))
    known.of("b/x").cool_until = 110
    route = RouteSpec(targets=["a/x", "b/x", "c/x"])
    found = plan(route, NOTHING, known, facts())
    assert ([str(target) for target in found.order], found.retry_after_s) == (["c/x", "b/x"], 5.0)
    assert refused(route, known=known) == {"a/x": "breaker_open"}
    clock[0] = 105.0
    assert order(route, known=known)[0] == "a/x"


def test_a_bare_provider_and_its_long_name_share_their_health():
    known = health()
    for _ in range(2):
        known.of("scripted").begin(100)
        known.of("scripted").failed(100, ProviderError("x", provider="a", upstream_status=503))
    assert refused(RouteSpec(targets=["scripted/scripted"]), known=known) == {"scripted/scripted": "breaker_open"}


TARGETS = st.lists(st.sampled_from(["a/x", "a/y", "b/x", "b/y", "c/z"]), min_size=1, unique=True)


@given(TARGETS, st.sampled_from(["fallback", "weighted", "cost", "latency", "cascade"]), st.floats(0, 0.999),
       st.sets(st.sampled_from(["a/x", "b/x", "c/z"])), st.text(max_size=4))  # fmt: skip
def test_every_target_is_planned_once_or_refused_with_a_reason(targets, strategy, draw, european, unit):
    known = {name: Approval(regions=["eu"]) for name in european}
    route = RouteSpec(targets=targets, strategy=strategy, require={"regions": ["eu"]})
    found = plan(route, NOTHING, health(), facts(lambda: draw, register=known, prices=Book(x=1)), unit=unit)
    planned = [str(target) for target in found.order]
    assert sorted(planned + [row.target for row in found.refused]) == sorted(targets)
    assert set(planned) == set(targets) & european
    assert all(row.reason and row.code for row in found.refused)


# ── through the gateway ───────────────────────────────────────────────────────────────────────────────────────────


def gateway(route, *, scripts=None, **settings):
    providers = {
        name: ProviderSettings(kind="scripted", script=[script])
        for name, script in (scripts or {"a": {"reply": "a"}, "b": {"reply": "b"}}).items()
    }
    return Gateway(GatewaySettings(providers=providers, routes={"r": RouteSpec(**route)}, **settings), deps())


async def ask(house, ctx=None, served=None, **request):
    message = ChatRequest("route/r", (text_message("user", "hello"),), **request)
    events = [event async for event in house.stream(ctx or caller(), message, served=served)]
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_tenants_residency_holds_whatever_the_route_says():
    house = gateway({"targets": ["a", "b"]}, approvals={"b/b": {"regions": ["eu"]}}, residency={"acme": ["eu"]})
    assert await ask(house) == "b"
    elsewhere = Context(TenantId("other"), Principal(PrincipalId("svc"), "service"))
    assert await ask(house, elsewhere) == "a"
    with pytest.raises(Forbidden) as caught:
        await ask(house, regions=("us",))
    assert (caught.value.code, caught.value.retryable) == ("target_not_approved", False)
    assert "outside" in caught.value.message


async def test_the_decision_names_who_serves_and_why_not_the_others():
    house = gateway(
        {"targets": ["a", "b", "c"], "retries": 0},
        scripts={"a": {"reply": "a"}, "b": {"fail_status": 503}, "c": {"reply": "c"}},
        approvals={"a/a": {"deprecated_on": "2020-01-01"}},
    )
    served = Served()
    assert await ask(house, served=served) == "c"
    assert served.decision.header() == "c; a=deprecated; b=provider_error"


async def test_a_cascade_escalates_an_answer_that_is_not_good_enough():
    route = {"targets": ["small", "big"], "strategy": "cascade", "cascade": {"min_chars": 3, "reject": ["sorry"]}}
    for poor in ("no", "sorry, I cannot"):
        served = Served()
        scripts = {"small": {"reply": poor}, "big": {"reply": "a whole answer"}}
        assert await ask(gateway(route, scripts=scripts), served=served) == "a whole answer"
        assert served.decision.header() == "big; small=escalated"
    good = {"small": {"reply": "good enough"}, "big": {"reply": "unused"}}
    assert await ask(gateway(route, scripts=good)) == "good enough"
    last = {"small": {"reply": "x"}, "big": {"reply": "y"}}
    # The last one is not judged: an answer is better than none.
    assert await ask(gateway(route, scripts=last)) == "y"


async def test_a_last_resort_serves_when_no_target_can():
    route = {"targets": ["a"], "retries": 0, "degrade": ["smaller"], "smaller": ["b"]}
    house = gateway(route, scripts={"a": {"fail_status": 503}, "b": {"reply": "small"}})
    assert await ask(house) == "small"


async def test_a_conversation_and_a_user_stay_with_their_target():
    house = gateway({"targets": ["a", "b"], "strategy": "weighted", "sticky": "conversation"})
    for number in range(6):
        ctx = replace(caller(), conversation=f"talk-{number}")
        assert len({await ask(house, ctx) for _ in range(4)}) == 1
    # A call that names no conversation pins nobody: the key may carry everybody's.
    assert {await ask(house, caller()) for _ in range(60)} == {"a", "b"}
    per_user = gateway({"targets": ["a", "b"], "strategy": "weighted", "sticky": "user"})
    seen = set()
    for number in range(20):
        ctx = caller().on_behalf_of(EndUser(f"user-{number}"), conversation=f"talk-{number}")
        answers = {await ask(per_user, replace(ctx, conversation=str(talk))) for talk in range(3)}
        assert len(answers) == 1
        seen |= answers
    assert seen == {"a", "b"}


# ── explained ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_explanation_has_every_target_with_its_place_or_its_reason():
    house = gateway(
        {"targets": ["a", "b"]},
        approvals={"a/a": {"regions": ["us"]}, "b/b": {"regions": ["eu"], "deprecated_on": "2999-01-01"}},
        residency={"acme": ["eu"]},
    )
    found = explain(house, caller(), "route/r", NOTHING)
    assert (found.chosen, found.regions) == ("b", (("eu",),))
    rows = {row.target: (row.position, row.code) for row in found.targets}
    assert rows == {"b": (1, ""), "a": (None, "region")}
    assert found.targets[0].warnings == ()


def test_a_last_day_that_is_near_warns_in_the_register_and_one_that_passed_refuses():
    entries = {
        "a/a": {"deprecated_on": "2026-12-01"},
        "b/b": {"deprecated_on": "2026-11-22"},
        "c/*": {},
        "e/*": {"regions": ["eu"]},
    }
    settings = GatewaySettings(
        providers={"c": ProviderSettings(kind="scripted", models=["m"])},
        routes={"r": RouteSpec(targets=["a", "b", "d/n"])},
        approvals=entries,
        must_be_approved=True,
    )
    rows = {row.target: (row.state, row.used_by) for row in register(settings, TODAY)}
    assert rows == {
        "a": ("ends soon", ("route/r",)),
        "b": ("ended", ("route/r",)),
        "c/m": ("approved", ()),
        "d/n": ("refused", ("route/r",)),
        "e/*": ("approved", ()),
    }


def test_nothing_is_assumed_of_a_model_that_is_not_known():
    need = Need(tools=True, images=True, json_schema=True, input_tokens=400_000, output_tokens=100)
    route = RouteSpec(targets=["up/acme-vision", "up/ft:gpt-4o:acme::x", "up/acme-text"])
    # A fine-tuned model is what it was tuned from; of the others nothing is known, so nothing is refused.
    assert refused(route, need=need) == {"up/ft:gpt-4o:acme::x": "context"}
    said = {"acme-*": ModelFacts(images=False), "acme-v*": ModelFacts(context_tokens=1000, images=True)}
    given = facts(profiles={"up": said, "other": {"*": ModelFacts(tools=False)}})
    assert refused(route, need=need, given=given) == {
        "up/acme-vision": "context",
        "up/ft:gpt-4o:acme::x": "context",
        "up/acme-text": "images",
    }
