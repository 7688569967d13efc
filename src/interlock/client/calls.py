"""What goes over the wire and what comes back, without a transport: shared by the sync and the async client."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import msgspec

from interlock.client.types import Answer, Citation, Claim, Contradiction, Option, Passage, Quote, Sentence, StreamEvent

__all__ = ["ApiError", "Call", "Reader", "chat_call", "error_of", "read_answer", "read_passages", "search_call"]

# Any in this module: decoded JSON, narrowed field by field.


class ApiError(Exception):
    """The server refused or failed.

    Attributes: `status` (HTTP, 0 when it broke off mid-stream), `code` (stable), `param`, `hint` (what to do next),
    `retry_after_s`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        param: str | None = None,
        hint: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.hint = hint
        self.retry_after_s = retry_after_s


class Call(msgspec.Struct, frozen=True):
    """One request."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]


def chat_call(
    app: str,
    messages: str | Sequence[Mapping[str, str]],
    *,
    stream: bool,
    api_key: str | None,
    on_behalf_of: str | None,
    conversation: str | None,
    variables: Mapping[str, Any] | None = None,
) -> Call:
    """A chat completion of an app (``NAME``, ``NAME@channel``) or of any model name with a slash."""
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else [dict(turn) for turn in messages]
    body: dict[str, Any] = {"model": app if "/" in app else f"app/{app}", "messages": turns, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    if variables:
        body["interlock"] = {"variables": dict(variables)}
    headers = _headers(api_key, on_behalf_of)
    if conversation:
        headers["x-interlock-conversation"] = conversation
    return Call("/v1/chat/completions", body, headers)


def search_call(
    collection: str,
    query: str,
    *,
    limit: int,
    mode: str,
    filter: Mapping[str, Any],  # noqa: A002 - what every search interface calls it
    api_key: str | None,
    on_behalf_of: str | None,
) -> Call:
    """A search of one collection."""
    body: dict[str, Any] = {"query": query, "limit": limit, "mode": mode, "filter": dict(filter)}
    return Call(f"/api/v1/collections/{quote(collection, safe='')}/search", body, _headers(api_key, on_behalf_of))


def read_passages(body: Mapping[str, Any]) -> list[Passage]:
    """The passages of a search, best first."""
    return [msgspec.convert(item, Passage) for item in body["data"]]


def _headers(api_key: str | None, on_behalf_of: str | None) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    if on_behalf_of:
        headers["x-interlock-on-behalf-of"] = on_behalf_of
    return headers


def error_of(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """The error in an answer body."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return ApiError(f"the server answered {status}", status=status, code="unknown")
    wait = float(retry_after) if retry_after and retry_after.isdigit() else None
    return ApiError(
        str(error.get("message")),
        status=status,
        code=str(error.get("code") or "unknown"),
        param=error.get("param"),
        hint=error.get("hint"),
        retry_after_s=wait,
    )


def read_answer(body: Mapping[str, Any]) -> Answer:
    """A whole (not streamed) answer."""
    text = body["choices"][0]["message"].get("content") or ""
    return _answer(text, body.get("interlock") or {}, body.get("usage") or {})


def _answer(text: str, facts: Mapping[str, Any], usage: Mapping[str, Any]) -> Answer:
    cost = facts.get("cost_usd")
    return Answer(
        text=text,
        outcome=str(facts.get("outcome") or ""),
        decline_reason=facts.get("decline_reason"),
        citations=_citations(facts.get("citations") or ()),
        model=str(facts.get("model") or ""),
        release=facts.get("release"),
        snapshot=facts.get("snapshot"),
        as_of=datetime.fromisoformat(facts["as_of"]) if facts.get("as_of") else None,
        stale=bool(facts.get("stale")),
        trace_id=str(facts.get("trace_id") or ""),
        cost_usd=None if cost is None else Decimal(cost),
        input_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
        support_map=msgspec.convert(facts.get("support_map") or (), tuple[Claim, ...]),
        contradictions=msgspec.convert(facts.get("contradictions") or (), tuple[Contradiction, ...]),
        options=msgspec.convert(facts.get("options") or (), tuple[Option, ...]),
    )


def _citations(raw: Sequence[Mapping[str, Any]]) -> tuple[Citation, ...]:
    return tuple(msgspec.convert(item, Citation) for item in raw)


class Reader:
    """Turns the lines of a stream into events; give it every line, then `finish` it."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._facts: Mapping[str, Any] = {}
        self._usage: Mapping[str, Any] = {}

    def feed(self, line: str) -> StreamEvent | None:
        """One line of the body. Raises: ApiError: the server broke off."""
        if not line.startswith("data: ") or line == "data: [DONE]":
            return None
        chunk = json.loads(line[6:])
        if "error" in chunk:
            raise error_of(0, line[6:].encode())
        self._usage = chunk.get("usage") or self._usage
        extra = chunk.get("interlock") or {}
        for choice in chunk.get("choices") or ():
            content = (choice.get("delta") or {}).get("content") or ""
            self._text.append(content)
            if content and extra.get("event") != "sentence":
                return Sentence(content, "generated", ())
        match extra.get("event"):
            case "quote":
                return Quote(msgspec.convert(extra["citation"], Citation))
            case "sentence":
                return Sentence(
                    self._text[-1].strip(),
                    str(extra["origin"]),
                    _citations(extra["citations"]),
                    str(extra.get("support") or ""),
                    msgspec.convert(extra.get("claims") or (), tuple[Claim, ...]),
                )
            case "done":
                self._facts = extra
        return None

    def finish(self) -> Answer:
        """The answer, after the last line."""
        return _answer("".join(self._text), self._facts, self._usage)
