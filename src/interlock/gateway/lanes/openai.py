"""OpenAI's batch API, which Groq has as well: a file of requests, a batch over it, files of answers and of errors.

Source: the OpenAI API reference for `/v1/files` and `/v1/batches`, and Groq's for the same.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import anyio.to_thread

from interlock.core.context import Context
from interlock.core.errors import InterlockError, ProviderError
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.gateway.failures import machine_code, status_error
from interlock.gateway.http import HttpApi
from interlock.gateway.lanes._files import LABEL, bytes_of, form, once, over
from interlock.gateway.lanes.ports import LaneLine, LaneResult, LaneTerms, Remote, Standing, custom_id, number_of

__all__ = ["OpenAiLane", "WireCodec"]

# Any in this module: JSON of a foreign service.
_PAGES = 5
_STATES: Mapping[str, Literal["working", "ended", "failed"]] = {
    "validating": "working", "in_progress": "working", "finalizing": "working", "cancelling": "working",
    "completed": "ended", "expired": "ended", "cancelled": "ended", "failed": "failed",
}  # fmt: skip
_UNDONE: Mapping[str, Literal["expired", "cancelled"]] = {
    "batch_expired": "expired", "batch_cancelled": "cancelled", "request_cancelled": "cancelled",
}  # fmt: skip


class WireCodec(NamedTuple):
    """How one provider writes requests and reads answers."""

    encode: Callable[[ChatRequest, str], dict[str, Any]]
    decode: Callable[[AsyncIterator[str], ChatRequest, str], AsyncGenerator[ChatEvent, None]]


class OpenAiLane:
    """One provider's batches.

    Args:
        codec: the provider's own, as for ordinary calls.
        endpoint: what each line is sent to.
    """

    def __init__(self, name: str, api: HttpApi, codec: WireCodec, *, endpoint: str, terms: LaneTerms) -> None:
        self._name = name
        self._api = api
        self._codec = codec
        self._endpoint = endpoint
        self.terms = terms

    def encode(self, request: ChatRequest, model: str) -> Mapping[str, Any]:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        body = self._codec.encode(request, model)
        return {name: value for name, value in body.items() if name not in {"stream", "stream_options"}}

    def events(self, request: ChatRequest, model: str, body: Mapping[str, Any]) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return self._codec.decode(once(body), request, model)

    def row(self, key: str, line: LaneLine) -> Mapping[str, Any]:
        """One line of the file that is uploaded."""
        name = custom_id(key, line.number)
        return {"custom_id": name, "method": "POST", "url": self._endpoint, "body": line.body}

    def files(self, ctx: Context) -> AsyncGenerator[Mapping[str, Any], None]:
        """Uploaded files there, newest first, as far as they are of interest."""
        return self._pages(ctx, "/files?purpose=batch&limit=100")

    def batches(self, ctx: Context) -> AsyncGenerator[Mapping[str, Any], None]:
        """Batches there, newest first, as far as they are of interest."""
        return self._pages(ctx, "/batches?limit=100")

    async def upload(self, ctx: Context, key: str, lines: Sequence[LaneLine], model: str) -> Remote:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""

        def written() -> tuple[str, bytes]:
            return form({"purpose": "batch"}, f"{key}.jsonl", bytes_of(self.row(key, line) for line in lines))

        # Up to tens of megabytes, which others need not wait for.
        content_type, body = await anyio.to_thread.run_sync(written)
        answer = await self._api.post_bytes(ctx, "/files", content_type, body)
        return Remote(input=self._id(answer))

    async def find_upload(self, ctx: Context, key: str) -> Remote | None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        async with aclosing(self.files(ctx)) as rows:
            async for row in rows:
                if row.get("filename") == f"{key}.jsonl":
                    return Remote(input=self._id(row))
        return None

    async def create(self, ctx: Context, key: str, remote: Remote, lines: Sequence[LaneLine], model: str) -> Standing:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        body = {
            "input_file_id": remote.input,
            "endpoint": self._endpoint,
            "completion_window": "24h",
            "metadata": {LABEL: key},
        }
        return self._standing(await self._api.post_json("/batches", None, body, ctx=ctx))

    async def find(self, ctx: Context, key: str, lines: int) -> Standing | None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        async with aclosing(self.batches(ctx)) as rows:
            async for row in rows:
                labels = row.get("metadata")
                if isinstance(labels, dict) and labels.get(LABEL) == key:
                    return self._standing(row)
        return None

    async def look(self, ctx: Context, remote: Remote) -> Standing:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return self._standing(await self._api.get_json(f"/batches/{quote(remote.batch, safe='')}", ctx=ctx))

    async def results(self, ctx: Context, key: str, remote: Remote, most: int) -> AsyncGenerator[LaneResult, None]:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        read = 0
        for file in remote.outputs:
            path = f"/files/{quote(file, safe='')}/content"
            async with aclosing(self._api.get_lines(ctx, path)) as rows:
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
            await self._api.post_json(f"/batches/{quote(remote.batch, safe='')}/cancel", None, {}, ctx=ctx)
        except InterlockError as error:
            # One that has ended meanwhile cannot be cancelled any more.
            if not over(error):
                raise

    async def remove(self, ctx: Context, remote: Remote) -> None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        for file in (remote.input, *remote.outputs):
            if file:
                await self._api.delete(ctx, f"/files/{quote(file, safe='')}")

    def _id(self, answer: Any) -> str:
        identity = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(identity, str) or not 1 <= len(identity) <= 200:
            raise ProviderError(f"provider {self._name!r} sent no id", provider=self._name)
        return identity

    def _standing(self, row: Any) -> Standing:
        identity = self._id(row)
        files = [row.get("output_file_id"), row.get("error_file_id")]
        outputs = tuple(file for file in files if isinstance(file, str) and file)
        remote = Remote(identity, str(row.get("input_file_id") or ""), outputs)
        state = _STATES.get(str(row.get("status")), "working")
        return Standing(state, remote, _reason(row) if state == "failed" else "")

    async def _pages(self, ctx: Context, path: str) -> AsyncGenerator[Mapping[str, Any], None]:
        after = ""
        for _ in range(_PAGES):
            answer = await self._api.get_json(f"{path}{after}", ctx=ctx)
            rows = answer.get("data") if isinstance(answer, dict) else None
            found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            for row in found:
                yield row
            if not found or not answer.get("has_more"):
                return
            after = f"&after={quote(str(found[-1].get('id')), safe='')}"

    def _result(self, key: str, raw: str) -> LaneResult | None:
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError):
            return None
        number = number_of(key, row.get("custom_id")) if isinstance(row, dict) else None
        if number is None:
            return None
        response, error = row.get("response"), row.get("error")
        if isinstance(response, dict):
            status, body = response.get("status_code"), response.get("body")
            if isinstance(body, dict) and (status is None or (isinstance(status, int) and 200 <= status < 300)):
                return LaneResult(number, body)
            known = status if isinstance(status, int) and 400 <= status < 600 else 502
            return LaneResult(number, None, status_error(self._name, known, {}, json.dumps(body).encode()))
        code = machine_code(error.get("code")) if isinstance(error, dict) else ""
        if code in _UNDONE:
            return LaneResult(number, None, undone=_UNDONE[code])
        failed = ProviderError(
            f"provider {self._name!r} did not answer this line" + (f" ({code})" if code else ""), provider=self._name
        )
        return LaneResult(number, None, failed)


def _reason(row: Mapping[str, Any]) -> str:
    errors = row.get("errors")
    first = errors.get("data") if isinstance(errors, dict) else None
    code = first[0].get("code") if isinstance(first, list) and first and isinstance(first[0], dict) else ""
    return machine_code(code) or "provider_batch_failed"
