"""Answers in the form that was asked for, from models that are not held to it."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import InvalidInput, ProviderError
from interlock.core.messages import (
    ChatRequest,
    Finish,
    Message,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    ToolSpec,
    Usage,
    text_message,
)
from interlock.gateway.profiles import profile
from interlock.gateway.service import Gateway, Served, collect
from interlock.gateway.settings import GatewaySettings, ProviderSettings
from interlock.gateway.structured.recover import FoundCall, find_calls, find_json
from interlock.gateway.structured.schema import check_schema, first_violation
from interlock.gateway.structured.settings import StructuredSpec
from interlock.gateway.structured.shape import Unmet, shape_for
from interlock.gateway.types import ModelProfile, RouteSpec
from interlock.testing.providers import caller, deps

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
GOOD = '{"name": "Ada", "age": 36}'
WEATHER = ToolSpec("weather", "of a town", {"type": "object", "properties": {"town": {"type": "string"}},
                                            "required": ["town"]})  # fmt: skip


class Said:
    """A provider that gives prepared answers and keeps what it was asked."""

    def __init__(self, *answers, finish="stop", calls=False, lacks=()):
        self.answers = list(answers)
        self.asked: list[ChatRequest] = []
        self.finish = finish
        self.calls = calls
        self.lacks = frozenset(lacks)

    async def stream(self, ctx, request, model):
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if self.calls and request.tools:
            yield ToolCallDelta(0, "c1", request.tools[0].name, answer)
        else:
            for at in range(0, len(answer), 7):
                yield TextDelta(answer[at : at + 7])
        yield Finish("tool_calls" if self.calls and request.tools else self.finish, Usage(10, 5), model)


class Purse:
    def __init__(self):
        self.charged = []
        self.open = 0

    def pressure(self):
        return 0.0

    async def admit(self, provider, model, estimate):
        self.open += 1
        purse = self

        class Held:
            done = False

            def charge(self, usage):
                assert not self.done
                self.done = True
                purse.open -= 1
                purse.charged.append(usage.total_tokens)

            def drop(self):
                if not self.done:
                    self.done = True
                    purse.open -= 1

        return Held()


async def ask(provider, model="gpt-3.5-turbo", purse=None, served=None, route=None, **request):
    settings = GatewaySettings(
        providers={"p": ProviderSettings(kind="scripted"), "q": ProviderSettings(kind="scripted")}
    )
    gateway = Gateway(settings, deps())
    for name, one in (provider if isinstance(provider, dict) else {"p": provider}).items():
        gateway.attempts._providers[name] = one
    spec = RouteSpec(**{"targets": [f"p/{model}"], "retries": 0, **(route or {})})
    asked = ChatRequest("p/x", (text_message("user", "who?"),), **request)
    stream = gateway.stream(caller(), asked, route=spec, served=served, meter=purse)
    return await collect(stream)


async def test_a_model_without_schemas_answers_through_a_tool_that_takes_the_answer():
    provider = Said(GOOD, calls=True)
    result = await ask(provider, response_schema=PERSON)
    assert json.loads(result.message.text) == {"name": "Ada", "age": 36}
    assert result.finish.reason == "stop"
    (sent,) = provider.asked
    assert (sent.response_schema, sent.tool_choice) == (None, ToolChoice("named", "answer"))
    assert sent.tools[0].parameters == PERSON


async def test_a_model_without_tools_is_told_the_schema_in_words():
    provider = Said(f"Sure, here it is:\n```json\n{GOOD}\n```\nAnything else?")
    result = await ask(provider, model="o1-mini", response_schema=PERSON)
    assert result.message.text == GOOD
    assert '"additionalProperties": false' in provider.asked[0].messages[0].text


async def test_an_answer_that_does_not_hold_is_asked_for_again_with_its_fault_and_each_try_is_paid():
    provider, purse, served = Said('{"name": "Ada"}', '{"name": "Ada", "age": -1}', GOOD), Purse(), Served()
    result = await ask(provider, model="o1-mini", response_schema=PERSON, purse=purse, served=served)
    assert result.message.text == GOOD
    assert (purse.charged, purse.open, served.repairs) == ([15, 15, 15], 0, 2)
    assert result.finish.usage == served.usage == Usage(30, 15)
    assert "expected the property 'age'" in provider.asked[1].messages[-1].text
    assert "at /age: expected at least 0" in provider.asked[2].messages[-1].text
    assert len(provider.asked[2].messages) == len(provider.asked[1].messages), "only the last fault is told"


async def test_tries_are_bounded_and_the_error_names_the_place_in_the_schema():
    provider, purse = Said('{"name": "SECRET", "age": "old"}'), Purse()
    with pytest.raises(ProviderError) as caught:
        await ask(provider, model="o1-mini", response_schema=PERSON, purse=purse, route={"structured": {"repairs": 1}})
    assert caught.value.code == "schema_unmet"
    assert "/properties/age/type" in caught.value.message
    assert "SECRET" not in str(caught.value)
    assert (len(provider.asked), purse.charged, purse.open) == (2, [15, 15], 0)


async def test_an_answer_that_was_cut_off_is_not_asked_for_again():
    provider = Said('{"name": "Ada", "ag', finish="length")
    with pytest.raises(ProviderError) as caught:
        await ask(provider, model="o1-mini", response_schema=PERSON)
    assert (caught.value.code, len(provider.asked)) == ("schema_unmet", 1)
    assert "max_tokens" in caught.value.hint


async def test_the_next_target_answers_when_the_first_cannot_hold_the_form():
    providers = {"p": Said("never"), "q": Said(GOOD)}
    served = Served()
    result = await ask(providers, response_schema=PERSON, served=served, route={"targets": ["p/o1-mini", "q/o1-mini"]})
    assert (result.message.text, str(served.target)) == (GOOD, "q/o1-mini")
    assert [row.code for row in served.decision.considered] == ["schema_unmet", ""]


async def test_a_provider_that_enforces_schemas_streams_as_it_comes():
    provider = Said(GOOD)
    result = await ask(provider, model="gpt-4o", response_schema=PERSON)
    assert (result.message.text, provider.asked[0].response_schema) == (GOOD, PERSON)
    provider = Said('{"name": 1}', GOOD)
    assert (await ask(provider, model="gpt-4o", response_schema=PERSON)).message.text == '{"name": 1}'
    provider = Said('{"name": 1}', GOOD)
    checked = await ask(provider, model="gpt-4o", response_schema=PERSON, route={"structured": {"check": True}})
    assert checked.message.text == GOOD


async def test_a_server_that_lacks_what_its_model_could_is_asked_otherwise():
    provider = Said(GOOD, calls=True, lacks={"json_schema"})
    assert (await ask(provider, model="gpt-4o", response_schema=PERSON)).message.text == GOOD
    assert provider.asked[0].tools
    provider = Said("{}", lacks={"json_object"})
    assert (await ask(provider, model="gpt-4o", response_schema={})).message.text == "{}"
    assert "one JSON object" in provider.asked[0].messages[0].text


@pytest.mark.parametrize(
    ("lacks", "structured"),
    [({"json_object"}, {}), (set(), {"mode": "prompt"}), (set(), {"mode": "tool"}), (set(), {"check": True})],
)
async def test_any_json_object_is_had_by_repair_where_the_provider_does_not_see_to_it(lacks, structured):
    provider = Said("Sure: {'total': 'x',} or not", "[1]", '```json\n{"total": 1}\n```', lacks=lacks)
    result = await ask(provider, model="gpt-4o", response_schema={}, route={"structured": structured})
    assert json.loads(result.message.text) == {"total": 1} or json.loads(result.message.text) == {"total": "x"}
    with pytest.raises(ProviderError) as caught:
        await ask(
            Said("no", "[1]", "still no", lacks=lacks),
            model="gpt-4o",
            response_schema={},
            route={"structured": structured},
        )
    assert caught.value.code == "schema_unmet"


async def test_a_refusal_passes_as_it_is():
    async def stream(ctx, request, model):
        yield TextDelta("I cannot do that.", refusal=True)
        yield Finish("stop", Usage(1, 1), model)

    provider = Said(GOOD)
    provider.stream = stream
    assert (await ask(provider, model="o1-mini", response_schema=PERSON)).message.text == "I cannot do that."


async def test_a_schema_that_cannot_be_checked_is_refused_by_name():
    for schema, place in [
        ({"type": "object", "properties": {"a": {"$ref": "https://example.com/x.json"}}}, "/properties/a/$ref"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "(a+)+$"}}}, "/properties/a/pattern"),
        ({"type": "object", "unevaluatedProperties": False}, "/unevaluatedProperties"),
    ]:
        with pytest.raises(InvalidInput) as caught:
            await ask(Said(GOOD), model="o1-mini", response_schema=schema)
        assert (caught.value.code, place in caught.value.message) == ("schema_unsupported", True)


async def test_a_cascade_escalates_an_answer_that_does_not_hold_to_the_schema():
    providers = {"p": Said('{"name": 3}'), "q": Said(GOOD)}
    served = Served()
    route = {"targets": ["p/gpt-4o", "q/gpt-4o"], "strategy": "cascade"}
    result = await ask(providers, response_schema=PERSON, served=served, route=route)
    assert result.message.text == GOOD
    assert served.decision.considered[0].reason == "it did not hold to the schema at /required"


# --- tools of models that know none


def tools_request(**changes):
    return {"tools": (WEATHER,), **changes}


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "weather", "arguments": {"town": "Bern"}}</tool_call>',
        'Let me see. <tool_call>\n{"name": "weather", "arguments": {"town": "Bern",},}\n</tool_call>',
        "```json\n{'name': 'weather', 'parameters': {'town': 'Bern'}}\n```",
        '{"tool": "weather", "args": {"town": "Bern"}}',
        '{"tool_calls": [{"function": {"name": "weather", "arguments": "{\\"town\\": \\"Bern\\"}"}}]}',
        'weather(town="Bern")',
        'I call weather({"town": "Bern"}) now.',
        '<function=weather>{"town": "Bern"}</function>',
        '[{"name": "weather", "arguments": {"town": "Bern"}}]',
    ],
)
async def test_a_call_written_as_text_becomes_a_call(text):
    provider = Said(text)
    result = await ask(provider, model="o1-mini", **tools_request())
    (call,) = result.message.parts
    assert isinstance(call, ToolCallPart)
    assert (call.name, json.loads(call.arguments), result.finish.reason) == ("weather", {"town": "Bern"}, "tool_calls")
    assert call.id.startswith("call_")
    assert provider.asked[0].tools == ()


async def test_only_offered_tools_are_called_and_their_arguments_hold_to_the_schema():
    text = '<tool_call>{"name": "delete_everything", "arguments": {}}</tool_call>'
    result = await ask(Said(text), model="o1-mini", **tools_request())
    assert (result.message.text, result.finish.reason) == (text, "stop")
    wrong = '<tool_call>{"name": "weather", "arguments": {"city": 1}}</tool_call>'
    provider = Said(wrong, 'weather(town="Bern")')
    result = await ask(provider, model="o1-mini", **tools_request())
    assert json.loads(result.message.parts[0].arguments) == {"town": "Bern"}
    with pytest.raises(ProviderError) as caught:
        await ask(Said(wrong), model="o1-mini", **tools_request())
    assert "/tools/weather/required" in caught.value.message


async def test_a_required_call_that_does_not_come_is_an_error_and_none_forbids_it():
    with pytest.raises(ProviderError) as caught:
        await ask(Said("It is sunny."), model="o1-mini", **tools_request(tool_choice=ToolChoice("required")))
    assert caught.value.code == "schema_unmet"
    text = 'weather(town="Bern")'
    provider = Said(text)
    result = await ask(provider, model="o1-mini", **tools_request(tool_choice=ToolChoice("none")))
    assert result.message.text == text
    assert all(message.role != "system" for message in provider.asked[0].messages)


async def test_earlier_calls_and_results_are_told_as_text():
    messages = (
        text_message("user", "Bern?"),
        Message("assistant", (ToolCallPart("c1", "weather", '{"town":"Bern"}'),)),
        Message("tool", (ToolResultPart("c1", (TextPart("sun"),)),)),
    )
    shape = shape_for(ChatRequest("m", messages, tools=(WEATHER,)), ModelProfile(tools=False), (), StructuredSpec())
    assert [message.role for message in shape.request.messages] == ["system", "user", "assistant", "user"]
    assert shape.request.messages[2].text == '<tool_call>{"name": "weather", "arguments": {"town":"Bern"}}</tool_call>'
    assert shape.request.messages[3].text == "<tool_result>sun</tool_result>"


def test_a_route_may_leave_tools_to_models_that_have_them():
    request = ChatRequest("m", (), tools=(WEATHER,))
    assert shape_for(request, ModelProfile(tools=False), (), StructuredSpec(tools="native")) is None
    assert shape_for(request, profile("gpt-4o"), (), StructuredSpec()) is None


# --- the parser

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
WORDS = st.text("abc .,!?\n", max_size=30)


@given(JSON)
def test_json_is_found_as_it_is(value):
    found, got = find_json(json.dumps(value))
    assert (found, got) == (True, value)


@given(st.dictionaries(st.text(max_size=6), JSON, min_size=1, max_size=4), WORDS, WORDS)
def test_an_object_is_found_in_a_fence_among_words(value, before, after):
    assert find_json(f"{before}\n```json\n{json.dumps(value)}\n```\n{after}") == (True, value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text("abc xyz", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), PLAIN, min_size=1, max_size=4))
def test_pythons_own_form_is_read(value):
    assert find_json(repr(value)) == (True, value)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), PLAIN, min_size=1, max_size=4))
def test_trailing_commas_are_forgiven(value):
    text = json.dumps(value, indent=1).replace("\n}", ",\n}").replace("\n ]", ",\n ]")
    assert find_json(text.replace("{,", "{").replace("[,", "["))[1] == value


@given(st.text(max_size=200))
def test_any_text_is_read_without_failing(text):
    find_json(text)
    for call in find_calls(text, {"weather"}):
        assert call.name == "weather"


@given(st.dictionaries(st.text("abc", min_size=1, max_size=5), PLAIN, max_size=4), WORDS)
def test_a_tagged_call_is_found_whatever_stands_around_it(arguments, words):
    text = f"{words}<tool_call>{json.dumps({'name': 't', 'arguments': arguments})}</tool_call>{words}"
    assert find_calls(text, {"t"}) == [FoundCall("t", arguments)]
    assert find_calls(text, {"other"}) == []


# --- the schema


@pytest.mark.parametrize(
    ("schema", "good", "bad", "where"),
    [
        ({"type": "integer"}, 3.0, 3.5, "/type"),
        ({"type": "integer"}, 1, True, "/type"),
        ({"enum": [1, "a", None]}, None, 2, "/enum"),
        ({"const": {"a": [1]}}, {"a": [1.0]}, {"a": [2]}, "/const"),
        ({"minimum": 1, "exclusiveMaximum": 3}, 2, 3, "/exclusiveMaximum"),
        ({"multipleOf": 0.1}, 0.3, 0.35, "/multipleOf"),
        ({"minLength": 2, "pattern": "^a"}, "ab", "ba", "/pattern"),
        ({"items": {"type": "string"}, "maxItems": 2}, ["a"], ["a", 1], "/items/type"),
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a"], ["a", 1], "/items"),
        ({"contains": {"const": 1}, "maxContains": 1}, [1, 2], [1, 1], "/contains"),
        ({"uniqueItems": True}, [1, True, "1"], [1, 1.0], "/uniqueItems"),
        ({"required": ["a"]}, {"a": 1}, {}, "/required"),
        ({"properties": {"a/b": {"type": "null"}}}, {"a/b": None}, {"a/b": 1}, "/properties/a~1b/type"),
        ({"patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False}, {"x1": 1}, {"y": 1},
         "/additionalProperties"),
        ({"propertyNames": {"maxLength": 2}}, {"ab": 1}, {"abc": 1}, "/propertyNames/maxLength"),
        ({"dependentRequired": {"a": ["b"]}}, {"b": 1}, {"a": 1}, "/dependentRequired/a"),
        ({"allOf": [{"type": "string"}, {"maxLength": 1}]}, "a", "ab", "/allOf/1/maxLength"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, 1, "/anyOf"),
        ({"oneOf": [{"minimum": 1}, {"maximum": 3}]}, 5, 2, "/oneOf"),
        ({"not": {"type": "string"}}, 1, "a", "/not"),
        ({"if": {"required": ["k"]}, "then": {"required": ["v"]}}, {"j": 2}, {"k": 1}, "/then/required"),
        ({"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}}, [1], ["a"], "/items/$ref/type"),
    ],
)  # fmt: skip
def test_each_keyword_holds_and_names_its_place(schema, good, bad, where):
    check_schema(schema)
    assert first_violation(schema, good) is None
    assert first_violation(schema, bad).schema_path == where


def test_a_schema_that_turns_in_a_circle_is_checked_along_the_value():
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}
    check_schema(tree)
    assert first_violation(tree, {"next": {"next": {}}}) is None
    assert first_violation(tree, {"next": {"nxt": 1}}).value_path == "/next/nxt"
    with pytest.raises(InvalidInput):
        first_violation({"$ref": "#"}, 1)


def test_reading_back_keeps_the_usage_and_the_order():
    request = ChatRequest("m", (text_message("user", "x"),), response_schema=PERSON)
    shape = shape_for(request, profile("o1-mini"), (), StructuredSpec())
    finish = Finish("stop", Usage(1, 2), "m")
    assert shape.read([TextDelta("  " + GOOD), finish]) == [TextDelta(GOOD), finish]
    with pytest.raises(Unmet) as caught:
        shape.read([TextDelta("no"), replace(finish, reason="length")])
    assert caught.value.final


@pytest.mark.parametrize(
    "schema",
    [
        {"required": 5}, {"properties": [1]}, {"anyOf": 5}, {"allOf": []}, {"enum": 5}, {"minLength": "x"},
        {"$defs": 5},
        {"type": 5}, {"type": []}, {"type": [5]}, {"multipleOf": 0}, {"minimum": True}, {"maxItems": -1},
        {"pattern": 5},
        {"dependentRequired": {"a": 5}}, {"patternProperties": {"a": 5}}, {"items": 5}, {"not": []}, {"$ref": 5},
        {"properties": {"a": {"prefixItems": {}}}},
    ],
)  # fmt: skip
def test_a_malformed_schema_is_refused_with_its_place(schema):
    with pytest.raises(InvalidInput) as caught:
        check_schema(schema)
    assert caught.value.code == "schema_unsupported"
    assert "/" in caught.value.message


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_KEYWORDS = st.sampled_from(
    ["type", "required", "properties", "anyOf", "enum", "minLength", "$defs", "multipleOf", "items", "pattern", "const",
     "dependentRequired", "patternProperties", "contains", "minContains", "if", "then", "not", "prefixItems", "$ref"]
)  # fmt: skip


@given(st.dictionaries(_KEYWORDS, _JSON, max_size=4), _JSON)
def test_any_schema_is_refused_or_can_check_any_value(schema, value):
    try:
        check_schema(schema)
    except InvalidInput:
        return
    with contextlib.suppress(InvalidInput):
        first_violation(schema, value)


def test_numbers_past_all_floats_are_checked():
    assert first_violation({"multipleOf": 3}, 10**400) is not None
    assert first_violation({"multipleOf": 10}, 10**400) is None
    assert first_violation({"multipleOf": 0.5, "minimum": 1e300}, 10**400) is not None


@pytest.mark.parametrize(
    "piece",
    ["f(", "<tool_call>x\n", "```", "a-", '\\"', "{'a': \"\\\"", "<function=a ", '[{"a":', "f(x=1) ", "{//", "/* {"],
)
def test_recovery_work_grows_with_the_text_and_not_with_its_square(piece):
    steps = []

    def counted(size):
        text = (piece * size)[:size]
        begun = 0

        def count(*_):
            nonlocal begun
            begun += 1

        sys.setprofile(count)
        try:
            find_calls(text, ["f"])
        finally:
            sys.setprofile(None)
        return begun

    steps = [counted(size) for size in (5_000, 10_000, 20_000)]
    assert steps[2] < 3 * steps[1] + 2_000
    assert steps[1] < 3 * steps[0] + 2_000


@pytest.mark.parametrize(
    "text", ["I would call f(a=1) if asked.", "Use f(a=1) and then g.", "f(a=1) is what I would call"]
)
def test_a_call_that_is_talked_about_is_no_call(text):
    assert find_calls(text, ["f"]) == []


@pytest.mark.parametrize(
    "text",
    [
        "f(a=1)",
        "Sure!\n\nf(a=1)\n",
        "```python\nf(a=1)\n```",
        "`f(a=1)`",
        "[f(a=1)]",
        "1. f(a=1)",
        "print(f(a=1))",
        "x = f(a=1)",
    ],
)
def test_a_call_that_stands_alone_is_found(text):
    assert find_calls(text, ["f"]) == [FoundCall("f", {"a": 1})]


def test_a_number_that_json_cannot_say_is_none():
    assert find_json('{"a": 1e999,}') == (False, None)
