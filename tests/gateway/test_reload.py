"""The gateway takes new settings while calls are under way."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from interlock.core.errors import NotFound, ProviderError
from interlock.core.messages import ChatRequest, TextDelta, text_message
from interlock.gateway.checking import check
from interlock.gateway.service import Gateway
from interlock.gateway.settings import GatewaySettings, ProviderSettings
from interlock.gateway.types import RouteSpec
from interlock.testing.providers import caller, deps
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.wires import OpenAIWire


def settings(*, targets=("a",), **scripts):
    providers = {name: ProviderSettings(kind="scripted", script=[script]) for name, script in scripts.items()}
    return GatewaySettings(providers=providers, routes={"r": RouteSpec(targets=list(targets), retries=0)})


def question(model="route/r"):
    return ChatRequest(model, (text_message("user", "hello"),))


async def said(house, model="route/r"):
    events = [event async for event in house.stream(caller(), question(model))]
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_new_calls_go_by_the_new_settings_and_the_generation_grows():
    house = Gateway(settings(a={"reply": "old"}), deps())
    assert (await said(house), house.generation) == ("old", 0)
    house.reload(settings(a={"reply": "new"}))
    assert (await said(house), house.generation) == ("new", 1)
    house.reload(settings(targets=["b"], b={"reply": "other"}))
    assert (await said(house), house.generation) == ("other", 2)
    with pytest.raises(NotFound):
        await said(house, "a")
    await house.close()


async def test_a_call_under_way_ends_with_what_it_began_with():
    slow = {"reply": "one two three four", "chunk_chars": 4, "chunk_delay_s": 0.001}
    house = Gateway(settings(a=slow), deps())
    words = []
    async with aclosing(house.stream(caller(), question())) as events:
        words.append((await anext(events)).text)
        old = house.opened["a"]
        house.reload(settings(a={"reply": "new"}))
        assert old.open_streams == 1
        words += [event.text async for event in events if isinstance(event, TextDelta)]
    assert "".join(words) == "one two three four"
    assert await said(house) == "new"
    assert house.opened["a"] is not old
    await house.close()


class Closing:
    """A provider of which only its end matters."""

    def __init__(self, inner):
        self.inner = inner
        self.closed = 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def close(self):
        self.closed += 1


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_provider_that_is_gone_is_closed_once_its_last_call_has_ended():
    house = Gateway(settings(a={"reply": "old"}, b={"reply": "b"}), deps())
    await said(house), await said(house, "b")
    a = house.attempts._providers["a"] = Closing(house.opened["a"])
    b = house.attempts._providers["b"] = Closing(house.opened["b"])
    with house.hold():
        house.reload(settings(targets=["b"], b={"reply": "b"}))
        await settle()
        assert (a.closed, b.closed) == (0, 0)
        with house.hold():
            # One that began after the reload is nobody the old provider waits for.
            pass
        assert house.opened["b"] is b
    await settle()
    assert (a.closed, b.closed) == (1, 0)
    await house.close()
    assert (a.closed, b.closed) == (1, 1)


async def test_several_reloads_during_one_call_close_each_provider_once():
    house = Gateway(settings(a={"reply": "0"}), deps())
    seen = []
    with house.hold():
        for number in range(1, 4):
            await said(house)
            seen.append(Closing(house.opened["a"]))
            house.attempts._providers["a"] = seen[-1]
            house.reload(settings(a={"reply": str(number)}))
        await settle()
        assert [provider.closed for provider in seen] == [0, 0, 0]
    await settle()
    assert [provider.closed for provider in seen] == [1, 1, 1]
    await house.close()
    assert [provider.closed for provider in seen] == [1, 1, 1]


async def test_closing_the_gateway_closes_what_calls_still_hold():
    house = Gateway(settings(a={"reply": "0"}), deps())
    await said(house)
    old = house.attempts._providers["a"] = Closing(house.opened["a"])
    with house.hold():
        house.reload(settings(a={"reply": "1"}))
        await house.close()
        assert old.closed == 1


async def test_an_old_call_that_opens_a_provider_late_gets_the_one_of_its_own_settings():
    house = Gateway(settings(a={"reply": "old"}), deps())
    attempts = house.attempts
    with house.hold():
        house.reload(settings(a={"reply": "new"}))
        late = attempts.provider("a")
        events = [event async for event in late.stream(caller(), question("a"), "a")]
        assert events[0] == TextDelta("old")
        assert await said(house) == "new"
    await settle()
    await house.close()


async def test_an_unchanged_provider_keeps_its_connections_and_its_health():
    house = Gateway(settings(targets=["a", "b"], a={"fail_status": 503}, b={"reply": "b"}), deps())
    assert await said(house) == "b"
    kept, failures = house.opened["a"], house.health.of("a").failures
    changed = settings(targets=["a", "b"], a={"fail_status": 503}, b={"reply": "new"})
    house.reload(changed.model_copy(update={"breaker": changed.breaker.model_copy(update={"failures": 1})}))
    assert house.opened["a"] is kept
    assert house.health.of("a").failures == failures == 1
    assert house.health.of("b").served == 0, "a changed provider begins anew"
    assert await said(house) == "new"
    assert house.health.of("a").state(house.health.clock()) == "open", "the new breaker opens at one failure"
    await house.close()


async def test_calls_that_wait_for_a_turn_are_served_across_a_reload():
    one = settings(a={"reply": "done", "first_delay_s": 0.05})
    busy = one.model_copy(
        update={"providers": {**one.providers, "a": one.providers["a"].model_copy(update={"max_concurrency": 1})}}
    )
    house = Gateway(busy, deps())
    calls = [asyncio.ensure_future(said(house)) for _ in range(3)]
    await settle()
    house.reload(settings(a={"reply": "new"}))
    assert await asyncio.gather(*calls) == ["done"] * 3
    assert await said(house) == "new"
    await house.close()


async def test_a_key_that_is_rotated_is_used_without_a_reload(tmp_path):
    key = tmp_path / "key"
    key.write_text("first")
    async with fake_upstream() as upstream:
        upstream.will(Reply(OpenAIWire().answer(["hi"])))
        entry = ProviderSettings(kind="openai", base_url=upstream.url, key=f"file:{key}")
        house = Gateway(GatewaySettings(providers={"up": entry}), deps())
        await said(house, "up/m")
        key.write_text("second")
        await said(house, "up/m")
        house.reload(GatewaySettings(providers={"up": entry}, must_be_approved=False))
        key.write_text("third")
        await said(house, "up/m")
        assert [r.headers["authorization"] for r in upstream.requests] == [
            f"Bearer {name}" for name in ("first", "second", "third")
        ]
        await house.close()


# ── checked before ────────────────────────────────────────────────────────────────────────────────────────────────


async def problems(given, **more):
    house = Gateway(GatewaySettings(), deps())
    return {one.field: one for one in await check(given, build=house.build, environ={}, **more)}


async def test_good_settings_have_no_problem():
    assert await problems(settings(a={"reply": "x"})) == {}


async def test_every_wrong_field_is_named():
    given = GatewaySettings(
        providers={
            "odd": ProviderSettings(kind="opnai"),
            "nokey": ProviderSettings(kind="openai", key="env:NO_SUCH_VARIABLE_HERE"),
            "nofile": ProviderSettings(kind="anthropic", api_key_file="/no/such/file"),
            "noaddress": ProviderSettings(kind="azure", key="env:PATH"),
            "theirs": ProviderSettings(kind="openai", key="env:PATH", tenant_keys={"acme": "env:NOT_SET_EITHER"}),
        },
        routes={
            "r": RouteSpec(
                targets=["odd/x", "gone/y"], degrade=["smaller"], smaller=["lost/z"], shadow={"target": "q/w"}
            )
        },
    )
    found = await problems(given)
    assert set(found) == {
        "gateway.providers.odd.kind",
        "gateway.providers.nokey.key",
        "gateway.providers.nofile.api_key_file",
        "gateway.providers.noaddress.base_url",
        "gateway.providers.theirs.tenant_keys.acme",
        "gateway.routes.r.targets[1]",
        "gateway.routes.r.smaller[0]",
        "gateway.routes.r.shadow.target",
    }
    assert "openai" in found["gateway.providers.odd.kind"].hint


async def test_what_serves_already_is_not_asked_for_its_key_again():
    given = GatewaySettings(providers={"nokey": ProviderSettings(kind="openai", key="env:NO_SUCH_VARIABLE_HERE")})
    assert await problems(given, trusted={"nokey"}) == {}


async def test_a_call_that_fails_lets_go_of_its_hold():
    house = Gateway(settings(a={"fail_status": 503}), deps())
    with pytest.raises(ProviderError):
        await said(house)
    old = house.attempts._providers["a"] = Closing(house.opened["a"])
    house.reload(settings(a={"reply": "x"}))
    await settle()
    assert old.closed == 1
    await house.close()
