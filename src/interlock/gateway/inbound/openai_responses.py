"""OpenAI responses as a server sees them: decode requests, encode answers and the typed events of a stream.

Options of a decoded request: `store`, `previous`, `conversation`, `background`, `items` (input as the API lists it),
`custom` (names of custom tools), `file_search` (a tool that this server runs), `file_results` (whether what it found
is shown) and `echo` (settings that the answer repeats).

Source: the OpenAI API reference for `POST /v1/responses`. Ours alone: the field `interlock`, on the response, and in
a stream also on `response.output_text.delta`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.core.errors import InterlockError
from interlock.core.messages import (
    ChatRequest,
    Message,
    Native,
    Reasoning,
    TextPart,
)
from interlock.gateway.fields import parsed
from interlock.gateway.inbound._openai import fault, tags_of
from interlock.gateway.inbound._responses_reply import Reply
from interlock.gateway.inbound._responses_request import (
    FILE_RESULTS,
    FILE_SEARCH,
    LOGPROBS,
    Request,
    checked_items,
    conversation_of,
    input_items,
    read_choice,
    read_file_search,
    read_tool,
    read_turns,
    reference_of,
    refuse_unsupported,
    schema_of,
    turns_of,
)
from interlock.gateway.ports import Asked, Fault, Inbound, Replier

__all__ = ["FILE_SEARCH", "broken", "checked_items", "input_items", "plugin", "queued", "reference_of", "turns_of"]


class _Responses:
    """The wire `openai.responses`."""

    name = "openai.responses"

    def decode(self, body: object, *, model: str | None = None, stream: bool | None = None) -> Asked:
        """See `Inbound`."""
        given = parsed(Request, body)
        assert isinstance(body, dict), "checked above"
        refuse_unsupported(given)
        turns = [Message("system", (TextPart(given.instructions),))] if given.instructions else []
        form = given.text.format if given.text else None
        wanted = given.reasoning
        searching = read_file_search(given.tools or ())
        request = ChatRequest(
            model=given.model,
            # What is referred to and what came before is joined by whoever can look it up.
            messages=(*turns, *read_turns(given.input)),
            stream=bool(given.stream),
            max_output_tokens=given.max_output_tokens,
            temperature=given.temperature,
            top_p=given.top_p,
            tools=tuple(
                read_tool(index, tool) for index, tool in enumerate(given.tools or ()) if tool.type != FILE_SEARCH
            ),
            tool_choice=read_choice(given.tool_choice),
            response_schema=schema_of(form),
            user_hint=given.safety_identifier or given.user,
            schema_name=form.name if form else None,
            schema_strict=bool(form.strict) if form else True,
            parallel_tool_calls=given.parallel_tool_calls,
            reasoning=Reasoning(effort=wanted.effort, summary=wanted.summary) if wanted else None,
            tags=tags_of(given.metadata),
            variables=given.interlock.variables if given.interlock else {},
            logprobs=(given.top_logprobs or 0) if LOGPROBS in (given.include or ()) else given.top_logprobs or None,
            native=Native(self.name, body if searching is None else _without_search(body)),
        )
        return Asked(
            request,
            {
                "store": given.store is not False,
                "previous": given.previous_response_id,
                "conversation": conversation_of(given.conversation),
                "background": bool(given.background),
                "items": input_items(body.get("input")),
                "custom": frozenset(tool.name for tool in given.tools or () if tool.type == "custom"),
                "file_search": searching,
                "file_results": FILE_RESULTS in (given.include or ()),
                "echo": _echo(given, body),
            },
        )

    def reply(self, asked: Asked) -> Replier:
        """See `Inbound`."""
        return Reply(asked)

    def fault(self, error: InterlockError, request_id: str) -> Fault:
        """See `Inbound`."""
        return fault(error)


def _without_search(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body without what a provider must not do itself."""
    return {name: value for name, value in body.items() if name not in {"tools", "tool_choice", "include"}}


def _echo(given: Request, body: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that the answer repeats, in the API's own shapes."""
    tools: list[dict[str, Any]] = [
        tool.model_dump(exclude_none=True)
        if tool.type == FILE_SEARCH
        else {
            "type": "custom",
            "name": tool.name,
            "description": tool.description,
            "format": tool.format or {"type": "text"},
        }
        if tool.type == "custom"
        else {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters or {},
            "strict": bool(tool.strict),
        }
        for tool in given.tools or ()
    ]
    return {
        "conversation": None if given.conversation is None else {"id": conversation_of(given.conversation)},
        "instructions": given.instructions,
        "max_output_tokens": given.max_output_tokens,
        "metadata": dict(given.metadata or {}),
        "parallel_tool_calls": given.parallel_tool_calls is not False,
        "previous_response_id": given.previous_response_id,
        "reasoning": {"effort": given.reasoning.effort if given.reasoning else None, "summary": None},
        "store": given.store is not False,
        "temperature": given.temperature,
        "text": {"format": (body.get("text") or {}).get("format") or {"type": "text"}},
        "tool_choice": given.tool_choice if given.tool_choice is not None else "auto",
        "tools": tools,
        "top_p": given.top_p,
        "truncation": given.truncation or "disabled",
        "user": given.user,
    }


def queued(asked: Asked) -> dict[str, Any]:
    """The answer to `asked` before it is begun; the options `id` and `created_at` of a later one make it the same."""
    return Reply(asked).queued()


def broken(asked: Asked, error: InterlockError) -> dict[str, Any]:
    """The answer to `asked` after an error that no answer can be expected after."""
    return Reply(asked).broken(error)


plugin: Inbound = _Responses()
