"""The gateway's door: routes, fallbacks, retries, timeouts, names."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.core.clock import Deadline
from interlock.core.errors import (
    DeadlineExceeded,
    InvalidInput,
    LimitExceeded,
    Misconfigured,
    NotFound,
    ProviderError,
)
from interlock.core.messages import ChatRequest, Finish, TextDelta, Usage, text_message
from interlock.core.trace import Span
from interlock.gateway.profiles import profile
from interlock.gateway.retry import backoff_s
from interlock.gateway.service import Gateway, Served
from interlock.gateway.settings import GatewaySettings, ProviderSettings
from interlock.gateway.types import RouteSpec, Target
from interlock.testing.providers import caller, deps
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.wires import OpenAIWire


class Spans:
    def __init__(self):
        self.all: list[Span] = []

    def emit(self, span):
        self.all.append(span)


class House:
    """A gateway of scripted providers that notes its waits instead of waiting."""

    def __init__(self, **scripts):
        providers = {
            name: ProviderSettings(kind="scripted", script=[script] if isinstance(script, dict) else script)
            for name, script in scripts.items()
        }
        self.waits: list[float] = []
        self.spans = Spans()
        settings = GatewaySettings(providers=providers, routes={"answers": RouteSpec(targets=list(scripts))})
        self.gateway = Gateway(settings, deps(), sleep=self._note)
        self.ctx = replace(caller(), sink=self.spans)

    async def _note(self, seconds):
        self.waits.append(seconds)

    async def ask(self, *targets, served=None, ctx=None, **route):
        spec = RouteSpec(targets=list(targets), **route)
        stream = self.gateway.stream(ctx or self.ctx, question("hello"), route=spec, served=served)
        async with aclosing(stream) as events:
            return [event async for event in events]

    def open_streams(self):
        return sum(provider.open_streams for provider in self.gateway.opened.values())


def question(text, model="route/answers"):
    return ChatRequest(model, (text_message("user", text),))


def said(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


GOOD = {"reply": "good"}
DOWN = {"fail_status": 503, "reply": "never"}


async def test_the_first_target_that_can_answers():
    house, served = House(a=DOWN, b=DOWN, c=GOOD), Served()
    events = await house.ask("a", "b", "c", served=served, retries=1)
    assert said(events) == "good"
    assert isinstance(events[-1], Finish)
    assert (str(served.target), served.attempts, served.fallbacks) == ("c", 5, 2)
    assert served.usage == Usage(1, 1)
    assert [span.name for span in house.spans.all] == ["chat a", "chat a", "chat b", "chat b", "chat c"]
    assert [span.status for span in house.spans.all] == ["error"] * 4 + ["ok"]


async def test_a_refused_request_goes_to_the_next_target_without_a_retry():
    house, served = House(a={"fail_status": 400}, b=GOOD), Served()
    assert said(await house.ask("a", "b", served=served)) == "good"
    assert (served.attempts, house.waits) == (2, [])


async def test_the_last_error_is_told_when_every_target_failed():
    house = House(a=DOWN, b={"fail_status": 400})
    with pytest.raises(ProviderError) as caught:
        await house.ask("a", "b", retries=0)
    assert caught.value.upstream_status == 400


async def test_nothing_is_tried_again_after_a_first_token():
    house, served = House(a={"reply": "one two three", "fail_status": 503, "fail_after_chunks": 1}, b=GOOD), Served()
    got = []

    async def consume():
        route = RouteSpec(targets=["a", "b"])
        async with aclosing(house.gateway.stream(house.ctx, question("x"), route=route, served=served)) as events:
            async for event in events:
                got.append(event)

    with pytest.raises(ProviderError):
        await consume()
    assert said(got) == "one two "
    assert (served.attempts, str(served.target), house.waits) == (1, "a", [])
    assert house.open_streams() == 0


async def test_a_second_try_waits_at_least_as_long_as_the_provider_asks():
    house = House(a={"fail_status": 429, "retry_after_s": 3, "fail_times": 2, "reply": "at last"})
    assert said(await house.ask("a")) == "at last"
    assert house.waits == [3, 3]


async def test_a_long_wait_is_the_callers_to_make_and_nobody_waits_while_there_is_another_target():
    house = House(a={"fail_status": 429, "retry_after_s": 21, "fail_times": 1, "reply": "at last"}, b=GOOD)
    with pytest.raises(LimitExceeded) as caught:
        await house.ask("a")
    assert caught.value.retry_after_s == 21
    house = House(a={"fail_status": 429, "retry_after_s": 1, "fail_times": 1, "reply": "at last"}, b=GOOD)
    assert said(await house.ask("a", "b")) == "good"
    assert house.waits == []


async def test_a_wait_beyond_the_deadline_goes_to_the_next_target_at_once():
    house = House(a={"fail_status": 429, "retry_after_s": 3600}, b=GOOD)
    assert said(await house.ask("a", "b", total_timeout_s=30)) == "good"
    assert house.waits == []


async def test_a_wait_beyond_the_deadline_ends_with_the_providers_error():
    house = House(a={"fail_status": 429, "retry_after_s": 3600})
    with pytest.raises(LimitExceeded) as caught:
        await house.ask("a", total_timeout_s=30)
    assert caught.value.retry_after_s == 3600


@given(st.integers(1, 12), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 3600))
def test_backoff_stays_within_its_bounds(attempt, draw, retry_after):
    wait = backoff_s(attempt, LimitExceeded("x", retry_after_s=retry_after), draw=draw)
    assert (retry_after or 0) <= wait <= max(retry_after or 0, min(8.0, 0.25 * 2.0 ** (attempt - 1)))


async def test_a_target_without_a_first_token_in_time_is_left_for_the_next():
    house = House(a={"first_delay_s": 60}, b=GOOD)
    assert said(await house.ask("a", "b", first_token_timeout_s=0.02, retries=0)) == "good"
    assert house.open_streams() == 0
    assert house.spans.all[0].error == "deadline_exceeded"


async def test_the_first_token_timeout_names_its_setting():
    house = House(a={"first_delay_s": 60})
    with pytest.raises(DeadlineExceeded) as caught:
        await house.ask("a", first_token_timeout_s=0.02, retries=0)
    assert "first token" in caught.value.message
    assert "first_token_timeout_s" in (caught.value.hint or "")


async def test_the_total_timeout_stops_an_answer_that_goes_on_for_ever():
    house = House(a={"reply": "word " * 1000, "chunk_chars": 5, "chunk_delay_s": 0.01}, b=GOOD)
    with pytest.raises(DeadlineExceeded):
        await house.ask("a", "b", total_timeout_s=0.05)
    assert house.open_streams() == 0


async def test_the_callers_deadline_is_kept_and_shared_among_the_targets():
    house = House(a={"first_delay_s": 60}, b={"first_delay_s": 60})
    served = Served()
    with pytest.raises(DeadlineExceeded):
        await house.ask("a", "b", ctx=house.ctx.with_deadline(Deadline.after(0.2)), served=served)
    assert (served.attempts, served.target) == (2, None)
    # Half of the time is the second one's, however long the first could have been waited for.
    house = House(a={"first_delay_s": 60}, b=GOOD)
    assert said(await house.ask("a", "b", ctx=house.ctx.with_deadline(Deadline.after(2)))) == "good"


async def test_closing_the_stream_closes_the_provider():
    house = House(a={"reply": "word " * 1000, "chunk_delay_s": 0.001})
    async with aclosing(house.gateway.stream(house.ctx, question("x", "a"))) as events:
        await anext(events)
        assert house.open_streams() == 1
    assert house.open_streams() == 0
    assert house.spans.all[-1].status == "cancelled"


async def test_an_error_of_a_plug_in_that_is_not_ours_is_converted_and_falls_back():
    house = House(a={"match": "(", "reply": "the script's expression is no expression"}, b=GOOD)
    assert said(await house.ask("a", "b", retries=0)) == "good"
    with pytest.raises(ProviderError) as caught:
        await house.ask("a", retries=0)
    assert caught.value.code == "provider_failed"


async def test_the_routes_sampling_holds_unless_the_request_says_otherwise():
    async with fake_upstream() as upstream:
        upstream.will(Reply(OpenAIWire().answer(["hi"])))
        settings = GatewaySettings(providers={"up": ProviderSettings(kind="openai", base_url=upstream.url)})
        gateway = Gateway(settings, deps())
        route = RouteSpec(targets=["up/m"], temperature=0.1, top_p=0.5, seed=3, max_output_tokens=100)
        await gateway.complete(caller(), question("x"), route=route)
        more = replace(question("x"), temperature=0.9, max_output_tokens=5000)
        await gateway.complete(caller(), more, route=route)
        fields = ("temperature", "top_p", "seed", "max_tokens")
        assert [tuple(r.body[name] for name in fields) for r in upstream.requests] == [
            (0.1, 0.5, 3, 100),
            (0.9, 0.5, 3, 100),
        ]
        await gateway.close()


async def test_embeddings_are_told_apart_by_provider_and_traced():
    house = House(a=GOOD)
    result = await house.gateway.embed(house.ctx, "a/m", ["one", "two words"])
    assert (len(result.vectors), result.usage.input_tokens, str(result.target)) == (2, 3, "a/m")
    assert house.spans.all[0].attributes["gen_ai.operation.name"] == "embeddings"


@pytest.mark.parametrize(
    ("model", "near"),
    [("route/answer", "'answers'"), ("opnai/gpt", "'openai'"), ("zzz", "openai"), ("route/q", "answers")],
)
async def test_an_unknown_name_is_not_found_and_a_near_one_is_named(model, near):
    house = House(openai=GOOD)
    house.gateway._settings.routes["answers"] = RouteSpec(targets=["openai"])
    with pytest.raises(NotFound) as caught:
        await house.gateway.complete(house.ctx, question("x", model))
    assert near in (caught.value.hint or "")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


@pytest.mark.parametrize("model", ["/x", "openai/", "/"])
async def test_a_name_that_is_none_is_invalid(model):
    with pytest.raises(InvalidInput) as caught:
        await House(openai=GOOD).gateway.complete(caller(), question("x", model))
    assert caught.value.param == "model"


async def test_a_missing_key_names_the_setting_and_the_next_target_answers():
    settings = GatewaySettings(
        providers={
            "openai": ProviderSettings(kind="openai", api_key_env="NO_SUCH_KEY_ANYWHERE"),
            "b": ProviderSettings(kind="scripted"),
        }
    )
    gateway = Gateway(settings, deps())
    with pytest.raises(Misconfigured) as caught:
        await gateway.complete(caller(), question("x"), route=RouteSpec(targets=["openai/gpt"]))
    assert caught.value.param == "gateway.providers.openai.api_key_env"
    result = await gateway.complete(caller(), question("x"), route=RouteSpec(targets=["openai/gpt", "b"]))
    assert result.message.text == "ok"
    assert await gateway.models() == ["b/scripted", "extractive"]  # the broken one lists nothing
    with pytest.raises(Misconfigured):
        await gateway.check("openai")
    await gateway.close()


async def test_many_calls_share_a_provider_without_mixing():
    house = House(a={"reply": "you said {question}", "chunk_chars": 3})
    results = await asyncio.gather(
        *[house.gateway.complete(house.ctx, question(f"number {n}", "a")) for n in range(30)]
    )
    assert [r.message.text for r in results] == [f"you said number {n}" for n in range(30)]


@pytest.mark.parametrize("address", ["nonsense", "ftp://host/", "http://", "http://host:99999/v1", "http://host:x/"])
def test_a_base_url_that_is_no_web_address_is_refused(address):
    with pytest.raises(ValidationError, match="base_url"):
        ProviderSettings(kind="openai", base_url=address)


@given(st.text(min_size=1, max_size=20).filter(lambda t: "/" not in t), st.text(min_size=1, max_size=20))
def test_a_targets_name_reads_back(provider, model):
    assert Target.parse(str(Target(provider, model))) == Target(provider, model)


def test_the_longest_prefix_of_a_profile_wins():
    assert profile("openai/gpt-4.1-mini").context_tokens == 1_000_000
    assert profile("o4-mini").fixed_sampling is True
    assert profile("SmolLM2-135M-Instruct").tier == "small"
    assert profile("never heard of it").tier == "capable"
