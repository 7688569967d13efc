"""Anthropic's Message Batches: the lines go in with the creation, the answers come out as one file of lines.

Source: the Anthropic API reference for `/v1/messages/batches`. A batch has no label of ours; what tells whose it is are
the names of its lines, which its results repeat. So one whose creation nobody confirmed is looked for among those made
in the same minutes with as many lines, and known once it has ended.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

from interlock.core.context import Context
from interlock.core.errors import InterlockError, ProviderError, Unavailable
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.gateway.failures import stream_error
from interlock.gateway.http import HttpApi
from interlock.gateway.lanes._files import begun_at, over
from interlock.gateway.lanes.ports import LaneLine, LaneResult, LaneTerms, Remote, Standing, custom_id, number_of

__all__ = ["AnthropicLane", "MessageCodec"]

# Any in this module: JSON of a foreign service.
_PATH = "/messages/batches"
_PAGES = 5
_SOON = timedelta(minutes=15)
"""Within which a creation that was sent is made, if it is."""
_CLOCKS = timedelta(minutes=2)


class MessageCodec(NamedTuple):
    """How requests are written and answers read, as for ordinary calls."""

    encode: Callable[[ChatRequest, str], dict[str, Any]]
    """Raises: InvalidInput: it needs a header that a batch does not send."""
    decode: Callable[[AsyncIterator[str], ChatRequest, str], AsyncGenerator[ChatEvent, None]]


class AnthropicLane:
    """One provider's batches.

    Args:
        headers: of every call.
    """

    def __init__(self, name: str, api: HttpApi, codec: MessageCodec, headers: Mapping[str, str]) -> None:
        self._name = name
        self._api = api
        self._codec = codec
        self._headers = dict(headers)
        self.terms = LaneTerms()

    def encode(self, request: ChatRequest, model: str) -> Mapping[str, Any]:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return {name: value for name, value in self._codec.encode(request, model).items() if name != "stream"}

    def events(self, request: ChatRequest, model: str, body: Mapping[str, Any]) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return self._codec.decode(_as_stream(body), request, model)

    async def upload(self, ctx: Context, key: str, lines: Sequence[LaneLine], model: str) -> Remote:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return Remote()

    async def find_upload(self, ctx: Context, key: str) -> Remote | None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return None

    async def create(self, ctx: Context, key: str, remote: Remote, lines: Sequence[LaneLine], model: str) -> Standing:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        requests = [{"custom_id": custom_id(key, line.number), "params": line.body} for line in lines]
        return self._standing(await self._api.post_json(_PATH, self._headers, {"requests": requests}, ctx=ctx))

    async def find(self, ctx: Context, key: str, lines: int) -> Standing | None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`.

        Raises: Unavailable: one may be it, which its results will tell.
        """
        first = begun_at(key)
        unknown = False
        async with aclosing(self._pages(ctx, first - _CLOCKS)) as rows:
            async for row in rows:
                made = _time(row.get("created_at"))
                if made is None or made > first + _SOON + _CLOCKS or _lines(row) != lines:
                    continue
                if row.get("processing_status") != "ended":
                    unknown = True
                elif await self._is_of(ctx, key, self._standing(row).remote):
                    return self._standing(row)
        if unknown:
            raise Unavailable("a batch there may be this one", code="provider_batch_unknown", retry_after_s=300.0)
        return None

    async def look(self, ctx: Context, remote: Remote) -> Standing:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return self._standing(await self._api.get_json(self._of(remote), self._headers, ctx=ctx))

    async def results(self, ctx: Context, key: str, remote: Remote, most: int) -> AsyncGenerator[LaneResult, None]:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        read = 0
        async with aclosing(self._api.get_lines(ctx, f"{self._of(remote)}/results", self._headers)) as rows:
            async for raw in rows:
                if not raw.strip():
                    continue
                read += 1
                if read > most:
                    return
                result = self._result(key, raw)
                if result is not None:
                    yield result

    async def cancel(self, ctx: Context, remote: Remote) -> None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        try:
            await self._api.post_json(f"{self._of(remote)}/cancel", self._headers, {}, ctx=ctx)
        except InterlockError as error:
            if not over(error):
                raise

    async def remove(self, ctx: Context, remote: Remote) -> None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`. Refused while it is being cancelled."""
        if remote.batch:
            await self._api.delete(ctx, self._of(remote), self._headers)

    def _of(self, remote: Remote) -> str:
        return f"{_PATH}/{quote(remote.batch, safe='')}"

    def _standing(self, row: Any) -> Standing:
        identity = row.get("id") if isinstance(row, dict) else None
        if not isinstance(identity, str) or not 1 <= len(identity) <= 200:
            raise ProviderError(f"provider {self._name!r} sent no id", provider=self._name)
        return Standing("ended" if row.get("processing_status") == "ended" else "working", Remote(identity))

    async def _pages(self, ctx: Context, since: datetime) -> AsyncGenerator[Mapping[str, Any], None]:
        after = ""
        for _ in range(_PAGES):
            answer = await self._api.get_json(f"{_PATH}?limit=100{after}", self._headers, ctx=ctx)
            rows = answer.get("data") if isinstance(answer, dict) else None
            found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            for row in found:
                yield row
            last = _time(found[-1].get("created_at")) if found else None
            # Newest first.
            if not found or not answer.get("has_more") or (last is not None and last < since):
                return
            after = f"&after_id={quote(str(found[-1].get('id')), safe='')}"

    async def _is_of(self, ctx: Context, key: str, remote: Remote) -> bool:
        async with aclosing(self.results(ctx, key, remote, 1)) as results:
            async for _ in results:
                return True
        return False

    def _result(self, key: str, raw: str) -> LaneResult | None:
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError):
            return None
        number = number_of(key, row.get("custom_id")) if isinstance(row, dict) else None
        result = row.get("result") if isinstance(row, dict) else None
        if number is None or not isinstance(result, dict):
            return None
        match result.get("type"):
            case "succeeded" if isinstance(result.get("message"), dict):
                return LaneResult(number, result["message"])
            case "expired":
                return LaneResult(number, None, undone="expired")
            case "canceled":
                return LaneResult(number, None, undone="cancelled")
        error = result.get("error")
        inner = error.get("error") if isinstance(error, dict) else None
        return LaneResult(number, None, stream_error(self._name, inner if isinstance(inner, dict) else error))


async def _as_stream(message: Mapping[str, Any]) -> AsyncGenerator[str, None]:
    """A whole message as the events that it would have come in."""
    for event in _events(message):
        yield json.dumps(event)


def _events(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield {"type": "message_start", "message": {**message, "content": []}}
    content = message.get("content")
    for at, block in enumerate(content if isinstance(content, list) else []):
        begun, deltas = _taken_apart(block if isinstance(block, dict) else {})
        yield {"type": "content_block_start", "index": at, "content_block": begun}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": at, "delta": delta}
        yield {"type": "content_block_stop", "index": at}
    stop = {"stop_reason": message.get("stop_reason"), "stop_sequence": message.get("stop_sequence")}
    yield {"type": "message_delta", "delta": stop, "usage": message.get("usage") or {}}
    yield {"type": "message_stop"}


def _taken_apart(block: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """A block as it begins, and what then comes of it."""
    match block.get("type"):
        case "tool_use":
            piece = json.dumps(block.get("input") or {}, ensure_ascii=False)
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece}]
        case "thinking":
            said: list[Mapping[str, Any]] = [{"type": "thinking_delta", "thinking": block.get("thinking") or ""}]
            if block.get("signature"):
                said.append({"type": "signature_delta", "signature": block["signature"]})
            return {"type": "thinking", "thinking": ""}, said
        case "text" if block.get("citations"):
            cited = [{"type": "citations_delta", "citation": citation} for citation in block["citations"]]
            text = {"type": "text_delta", "text": block.get("text") or ""}
            return {"type": "text", "text": "", "citations": []}, [text, *cited]
    return block, []


def _lines(row: Mapping[str, Any]) -> int:
    counts = row.get("request_counts")
    return sum(each for each in counts.values() if isinstance(each, int)) if isinstance(counts, dict) else -1


def _time(given: object) -> datetime | None:
    try:
        return datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        return None
