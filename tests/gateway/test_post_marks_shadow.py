"""What happens around an answer: marks for a provider's prompt cache before it, rewriting of it, copies after it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.core.errors import Misconfigured, Unavailable
from interlock.core.messages import (
    ChatRequest,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
    text_message,
)
from interlock.gateway.marks import marked
from interlock.gateway.posting import chain
from interlock.gateway.profiles import profile
from interlock.gateway.service import Gateway, Served, collect
from interlock.gateway.settings import GatewaySettings, ProviderSettings
from interlock.gateway.types import ModelProfile, RouteSpec
from interlock.gateway.wires import anthropic
from interlock.testing.providers import caller, deps

SONNET = profile("claude-sonnet-4-5")
LONG = "word " * 1200


def marks(request):
    found = [f"tool:{tool.name}" for tool in request.tools if tool.cache]
    for number, message in enumerate(request.messages):
        found += [f"{number}:{message.role}" for part in message.parts if getattr(part, "cache", None)]
    return found


def ask(*messages, tools=(), **changes):
    return ChatRequest("m", messages, tools=tools, **changes)


SYSTEM = text_message("system", LONG)
USER = text_message("user", "hello")
TOOL = ToolSpec("t", LONG, {})


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (ask(SYSTEM, USER), ["0:system"]),
        (ask(text_message("system", "short"), USER), []),
        (ask(USER, tools=(TOOL,)), ["tool:t"]),
        (ask(text_message("system", "short"), USER, tools=(TOOL,)), ["0:system"]),
        (ask(USER, text_message("assistant", LONG), USER), ["1:assistant"]),
        (ask(SYSTEM, USER, text_message("assistant", "yes"), USER), ["0:system", "2:assistant"]),
        (ask(text_message("user", LONG)), []),
        (ask(Message("system", (TextPart(LONG), TextPart("x", cache="1h"))), USER), ["0:system"]),
    ],
    ids=str,
)
def test_the_stable_start_of_a_long_prompt_is_marked(request_, expected):
    assert marks(marked(request_, SONNET)) == expected


def test_marks_are_only_for_models_that_have_them_and_above_their_length():
    assert marks(marked(ask(SYSTEM, USER), profile("gpt-4o"))) == []
    assert marks(marked(ask(SYSTEM, USER), profile("claude-haiku-4-5"))) == []
    assert marks(marked(ask(SYSTEM, USER), profile("us.anthropic.claude-sonnet-4-5-20250929-v1:0"))) == ["0:system"]
    assert marks(marked(ask(SYSTEM, USER), profile("anthropic.claude-3-haiku-20240307-v1:0"))) == []
    assert marks(marked(ask(USER, tools=(TOOL,)), profile("amazon.nova-pro-v1:0"))) == []


PARTS = (
    st.builds(TextPart, st.text(max_size=30))
    | st.builds(ToolCallPart, st.just("c"), st.just("n"), st.just("{}"))
    | st.builds(ToolResultPart, st.just("c"), st.just((TextPart("r"),)))
    | st.builds(ReasoningPart, st.text(max_size=5), st.just("anthropic"))
)
MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.lists(PARTS, max_size=3).map(tuple)),
    max_size=8,
).map(tuple)


@given(MESSAGES, st.integers(1, 40), st.booleans())
def test_marks_change_nothing_else_and_are_never_more_than_two(messages, least, with_tool):
    request = ChatRequest("m", messages, tools=(ToolSpec("t", "d", {}),) if with_tool else ())
    result = marked(request, ModelProfile(prompt_cache_tokens=least))
    assert len(marks(result)) <= 2

    def bare(part):
        return part if isinstance(part, ReasoningPart) else replace(part, cache=None)

    unmarked = [replace(message, parts=tuple(bare(part) for part in message.parts)) for message in result.messages]
    assert tuple(unmarked) == messages
    assert tuple(replace(tool, cache=None) for tool in result.tools) == request.tools


def test_a_mark_reaches_the_wire():
    body = anthropic.encode_request(marked(ask(SYSTEM, USER), SONNET), "claude-sonnet-4-5", SONNET)
    assert body["system"][-1]["cache_control"] == {"type": "ephemeral"}


# --- post


def rewritten(text, *steps):
    for rewrite in chain(steps):
        text = rewrite(text)
    return text


@pytest.mark.parametrize(
    ("steps", "text", "expected"),
    [
        (["trim"], "  a \n", "a"),
        (["strip_code_fence"], "```python\nx = 1\n```", "x = 1"),
        (["strip_code_fence"], "see ```x``` there", "see ```x``` there"),
        (["json_only"], 'Sure: {"a": 1,} ok', '{"a": 1}'),
        ([{"max_chars": 10}], "one two three", "one two"),
        ([{"regex_replace": {"pattern": r"\b(\w)\w+", "with": r"\1"}}], "one two", "o t"),
        ([{"regex_replace": {"pattern": "o"}}, "trim"], " foo ", "f"),
    ],
)
def test_hooks_rewrite_in_order(steps, text, expected):
    assert rewritten(text, *steps) == expected


@pytest.mark.parametrize("step", ["nope", {"max_chars": 0}, {"regex_replace": {"pattern": "("}}, {"trim": 1}, {}])
def test_a_wrong_hook_is_named_when_the_gateway_opens(step):
    settings = GatewaySettings(routes={"r": RouteSpec(targets=["local/x"], post=[step])})
    with pytest.raises(Misconfigured) as caught:
        Gateway(settings, deps())
    assert caught.value.param == "post.0"


def test_json_only_refuses_an_answer_without_json():
    with pytest.raises(Unavailable) as caught:
        rewritten("no", "json_only")
    assert caught.value.code == "schema_unmet"


@given(st.text(max_size=300), st.integers(1, 50))
def test_hooks_are_idempotent_and_bounded(text, most):
    assert len(rewritten(text, {"max_chars": most})) <= most
    for steps in (["trim"], [{"max_chars": most}]):
        once = rewritten(text, *steps)
        assert rewritten(once, *steps) == once


# --- copies


class Bills:
    def __init__(self):
        self.rows = []
        self.open = 0

    @asynccontextmanager
    async def meter(self, ctx, scope):
        self.open += 1
        bills = self

        class Meter:
            def pressure(self):
                return 0.0

            async def admit(self, provider, model, estimate):
                class Held:
                    def charge(self, usage):
                        bills.rows.append((provider, scope.app, usage.total_tokens))

                    def drop(self):
                        pass

                return Held()

        try:
            yield Meter()
        finally:
            self.open -= 1


class Spans:
    def __init__(self):
        self.all = []

    def emit(self, span):
        self.all.append(span)


def site(copy=None, bills=None, **shadow):
    script = {"reply": '{"a": 1}'}
    settings = GatewaySettings(
        providers={
            "main": ProviderSettings(kind="scripted", script=[script]),
            "copy": ProviderSettings(kind="scripted", script=[copy or {"reply": '{"a":  1}'}]),
        },
        routes={"r": RouteSpec(targets=["main"], retries=0, shadow={"target": "copy", **shadow})},
    )
    return Gateway(settings, deps(), shadow_meter=(bills or Bills()).meter)


async def asked(gateway, **changes):
    spans = Spans()
    request = ChatRequest("route/r", (text_message("user", "hi"),), **changes)
    result = await collect(gateway.stream(replace(caller(), sink=spans), request))
    return result.message.text, spans


async def test_a_copy_is_compared_and_thrown_away():
    gateway = site()
    text, spans = await asked(gateway, response_schema={})
    assert text == '{"a": 1}'
    await gateway.shadows.settled()
    assert gateway.shadows.counts == {"sent": 1, "agreed": 1}
    (span,) = [span for span in spans.all if span.name == "shadow"]
    assert span.attributes["interlock.shadow.agrees"] is True
    assert (span.attributes["interlock.shadow.chars"], span.attributes["interlock.shadow.original_chars"]) == (9, 8)


async def test_a_copy_never_waits_before_the_caller_and_its_failure_is_nobodys():
    gateway = site(copy={"reply": "x", "first_delay_s": 60})
    async with asyncio.timeout(5):
        await asked(gateway)
    assert gateway.shadows.counts["sent"] <= 1
    await gateway.close()
    gateway = site(copy={"fail_status": 503})
    await asked(gateway)
    await gateway.shadows.settled()
    assert gateway.shadows.counts["failed"] == 1


async def test_copies_have_bounds_of_their_own():
    gateway = site(copy={"reply": "x", "first_delay_s": 30}, concurrency=2)
    for _ in range(5):
        await asked(gateway)
        await asyncio.sleep(0)
    assert (gateway.shadows.counts["sent"], gateway.shadows.counts["skipped"]) == (2, 3)
    await gateway.close()
    gateway = site(max_per_hour=1)
    for _ in range(3):
        await asked(gateway)
        await gateway.shadows.settled()
    assert gateway.shadows.counts["sent"] == 1


@pytest.mark.parametrize(("charge", "rows"), [(False, []), (True, [("copy", "", 3)])])
async def test_a_copy_is_charged_only_when_the_route_says_so(charge, rows):
    bills = Bills()
    gateway = site(bills=bills, charge=charge)
    await asked(gateway)
    await gateway.shadows.settled()
    assert (bills.rows, bills.open) == (rows, 0)


async def test_an_unfinished_answer_has_no_copy():
    gateway = site()
    request = ChatRequest("route/r", (text_message("user", "hi"),))
    async with aclosing(gateway.stream(caller(), request, served=Served())) as events:
        await anext(events)
    await gateway.shadows.settled()
    assert gateway.shadows.counts == {}


def test_a_ladder_that_needs_what_is_not_there_is_refused():
    with pytest.raises(ValidationError):
        RouteSpec(targets=["a/b"], degrade=["cache"])
    with pytest.raises(ValidationError):
        RouteSpec(targets=["a/b"], degrade=["cache"], cache={"ttl_s": 5})
