"""What a model that cannot be held to a form is asked instead, and how its answer is read back."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from interlock.core.ids import new_id
from interlock.core.messages import (
    ChatEvent,
    ChatRequest,
    Finish,
    Message,
    Part,
    ReasoningDelta,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    ToolSpec,
    text_message,
)
from interlock.gateway.structured.recover import find_calls, find_json
from interlock.gateway.structured.schema import Violation, check_schema, first_violation
from interlock.gateway.structured.settings import StructuredSpec
from interlock.gateway.types import ModelProfile

__all__ = ["Shape", "Unmet", "shape_for"]

Mode = Literal["check", "tool", "prompt", "calls"]


class Unmet(Exception):
    """An answer is not in the form that was asked for.

    Args:
        violation: where not.
        said: the answer as text, for the repair.
        final: True when asking again is of no use (it was cut off).
    """

    def __init__(self, violation: Violation, said: str, *, final: bool = False) -> None:
        self.violation = violation
        self.said = said
        self.final = final


class Shape:
    """One request in the form that a target understands.

    Args:
        asked: as the caller sent it.
        mode: `check` validates what the provider enforces; `tool` takes the answer as a tool's arguments; `prompt` asks
            for JSON in words; `calls` tells of tools in words.
    """

    def __init__(self, asked: ChatRequest, mode: Mode) -> None:
        self._asked = asked
        self._mode = mode
        self._tool = asked.schema_name or "answer"
        if mode != "calls" and asked.response_schema:
            check_schema(asked.response_schema)
        self.request = self._sent()

    def _sent(self) -> ChatRequest:
        asked = self._asked
        if self._mode == "check":
            return asked
        # The wire's own copy of the request still asks for the form that the model does not know.
        asked = replace(asked, native=None)
        if self._mode == "tool":
            tool = ToolSpec(self._tool, "Give the answer by calling this.", dict(asked.response_schema or {}))
            choice = ToolChoice("named", self._tool)
            return replace(asked, tools=(tool,), tool_choice=choice, response_schema=None, parallel_tool_calls=None)
        if self._mode == "prompt":
            return replace(_instructed(asked, _schema_words(asked.response_schema or {})), response_schema=None)
        words = "" if asked.tool_choice.mode == "none" else _tool_words(asked)
        told = replace(asked, messages=tuple(_without_tools(message) for message in asked.messages))
        plain = replace(told, tools=(), tool_choice=ToolChoice(), parallel_tool_calls=None)
        return _instructed(plain, words) if words else plain

    def again(self, unmet: Unmet) -> ChatRequest:
        """The request once more, with the faulty answer and what was wrong with it."""
        violation = unmet.violation
        where = f" at {violation.value_path}" if violation.value_path else ""
        wanted = "the tool call" if self._mode == "calls" else "only the JSON"
        fault = f"That does not have the required form{where}: {violation.message}. Answer again with {wanted}."
        if self._mode == "tool":
            fault = f"That does not have the required form{where}: {violation.message}. Call the tool again."
        said = unmet.said.strip() or "(nothing)"
        turns = (text_message("assistant", said), text_message("user", fault))
        return replace(self.request, messages=(*self.request.messages, *turns))

    def read(self, events: Sequence[ChatEvent]) -> list[ChatEvent]:
        """The answer as the caller asked for it. Raises: Unmet."""
        finish = events[-1]
        assert isinstance(finish, Finish), "a whole answer ends with its finish"
        refused = any(isinstance(event, TextDelta) and event.refusal for event in events)
        if finish.reason == "content_filter" or refused:
            return list(events)
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        if self._mode == "calls":
            return self._read_calls(events, text, finish)
        calls = _joined_calls(events)
        if self._mode == "tool":
            answers = [call for call in calls if call.name == self._tool]
            text = answers[0].arguments if answers else text
        elif calls:
            # The model called one of the caller's tools: the answer, and with it the form, is for a later turn.
            return list(events)
        value = self._value(text, finish)
        strict = text.strip() if _is_strict(text) else json.dumps(value, ensure_ascii=False)
        reason = "stop" if finish.reason == "tool_calls" else finish.reason
        thoughts = [event for event in events if isinstance(event, ReasoningDelta)]
        return [*thoughts, TextDelta(strict), replace(finish, reason=reason)]

    def _value(self, text: str, finish: Finish) -> Any:  # Any: JSON
        found, value = find_json(text)
        cut = finish.reason == "length"
        if not found:
            raise Unmet(Violation("", "", "expected JSON" + (", and it was cut off" if cut else "")), text, final=cut)
        schema = self._asked.response_schema or {"type": "object"}
        violation = first_violation(schema, value)
        if violation is not None:
            raise Unmet(violation, text, final=cut)
        return value

    def _read_calls(self, events: Sequence[ChatEvent], text: str, finish: Finish) -> list[ChatEvent]:
        asked = self._asked
        offered = {tool.name: tool for tool in asked.tools}
        choice = asked.tool_choice
        if choice.mode == "none":
            return list(events)
        calls = find_calls(text, offered)
        if choice.mode == "named":
            calls = [call for call in calls if call.name == choice.name]
        if asked.parallel_tool_calls is False:
            calls = calls[:1]
        if not calls:
            if choice.mode in {"required", "named"}:
                wanted = choice.name if choice.mode == "named" else " or ".join(offered)
                raise Unmet(
                    Violation("/tool_choice", "", f"expected a call of {wanted}"), text, final=finish.reason == "length"
                )
            return list(events)
        found: list[ChatEvent] = [event for event in events if isinstance(event, ReasoningDelta)]
        for position, call in enumerate(calls):
            violation = first_violation(offered[call.name].parameters, call.arguments)
            if violation is not None:
                path = f"/tools/{call.name}{violation.schema_path}"
                raise Unmet(violation._replace(schema_path=path), text, final=finish.reason == "length")
            arguments = json.dumps(call.arguments, ensure_ascii=False)
            found.append(ToolCallDelta(position, new_id("call"), call.name, arguments))
        return [*found, replace(finish, reason="tool_calls")]


def shape_for(
    request: ChatRequest, profile: ModelProfile, lacks: Collection[str], spec: StructuredSpec
) -> Shape | None:
    """How a target has to be asked; None when it takes the request as it is.

    Args:
        lacks: what the target's server does not know, whatever the model: ``json_schema``, ``json_object``, ``tools``.
    """
    if profile.tier == "none":
        return None
    no_tools = not profile.tools or "tools" in lacks
    if request.tools and no_tools and spec.tools == "auto":
        return Shape(request, "calls")
    if request.response_schema is None:
        return None
    if not request.response_schema:
        # Any object: asked of the provider where it has that, else in words, and read back like every other form.
        if spec.mode in {"tool", "prompt"} or ("json_object" in lacks and spec.mode != "native"):
            return Shape(request, "prompt")
        return Shape(request, "check") if spec.check else None
    native = profile.json_schema and "json_schema" not in lacks
    if spec.mode == "native" or (spec.mode == "auto" and native):
        return Shape(request, "check") if spec.check else None
    can_tool = not no_tools and not request.tools and request.response_schema.get("type") == "object"
    if can_tool and spec.mode in {"auto", "tool"}:
        return Shape(request, "tool")
    return Shape(request, "prompt")


def _instructed(request: ChatRequest, words: str) -> ChatRequest:
    """The request with further instructions after its own."""
    messages = list(request.messages)
    at = next((n for n in reversed(range(len(messages))) if messages[n].role == "system"), None)
    if at is None:
        return replace(request, messages=(text_message("system", words), *messages))
    messages[at] = replace(messages[at], parts=(*messages[at].parts, TextPart("\n\n" + words)))
    return replace(request, messages=tuple(messages))


def _schema_words(schema: Mapping[str, object]) -> str:
    if not schema:
        return "Answer with one JSON object and nothing else: no explanation, no code fence."
    text = json.dumps(schema, ensure_ascii=False)
    return (
        "Answer with one JSON value and nothing else: no explanation, no code fence. "
        f"It must hold to this JSON Schema:\n{text}"
    )


def _tool_words(request: ChatRequest) -> str:
    offered = [
        tool for tool in request.tools if request.tool_choice.mode != "named" or tool.name == request.tool_choice.name
    ]
    lines = [
        json.dumps(
            {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
            ensure_ascii=False,
        )
        for tool in offered
    ]
    must = {
        "required": "You must call at least one tool.",
        "named": "You must call this tool.",
    }.get(request.tool_choice.mode, "Call a tool only when it is needed; otherwise answer in words.")
    one = " Call at most one." if request.parallel_tool_calls is False else ""
    return (
        "You can call these tools, one JSON description a line:\n"
        + "\n".join(lines)
        + '\nTo call one, write exactly: <tool_call>{"name": "NAME", "arguments": {…}}</tool_call> '
        + f"and nothing after your calls. {must}{one}"
    )


def _without_tools(message: Message) -> Message:
    """A turn with its tool calls and results as text, for models that know neither."""
    if not any(isinstance(part, (ToolCallPart, ToolResultPart)) for part in message.parts):
        return message
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolCallPart):
            call = f'<tool_call>{{"name": {json.dumps(part.name)}, "arguments": {part.arguments or "{}"}}}</tool_call>'
            parts.append(TextPart(call))
        elif isinstance(part, ToolResultPart):
            text = "".join(item.text for item in part.content if isinstance(item, TextPart))
            parts.append(TextPart(f"<tool_result{' error' if part.is_error else ''}>{text}</tool_result>"))
            parts += [item for item in part.content if not isinstance(item, TextPart)]
        else:
            parts.append(part)
    role = "user" if message.role == "tool" else message.role
    return Message(role, tuple(parts), message.name)


def _joined_calls(events: Sequence[ChatEvent]) -> list[ToolCallPart]:
    calls: dict[int, ToolCallPart] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            known = calls.get(event.index, ToolCallPart("", "", ""))
            calls[event.index] = replace(
                known,
                id=known.id or event.id or "",
                name=known.name or event.name or "",
                arguments=known.arguments + event.arguments,
            )
    return list(calls.values())


def _is_strict(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
