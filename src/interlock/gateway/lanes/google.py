"""The Gemini API's batches, with the requests inside the creation and the answers inside the finished batch.

Source: the Gemini API reference of `models.batchGenerateContent` and `batches`. Answers carry the key of their request;
servers that leave it out give them in the order of the requests, which is therefore written down (`Remote.input`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from interlock.core.context import Context
from interlock.core.errors import InterlockError, ProviderError
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.gateway.failures import machine_code, stream_error
from interlock.gateway.http import HttpApi
from interlock.gateway.lanes._files import once, over
from interlock.gateway.lanes.ports import LaneLine, LaneResult, LaneTerms, Remote, Standing, custom_id, number_of

__all__ = ["ContentCodec", "GoogleLane"]

# Any in this module: JSON of a foreign service.
_PAGES = 5
_STATES: Mapping[str, Literal["working", "ended", "failed"]] = {
    "SUCCEEDED": "ended", "CANCELLED": "ended", "EXPIRED": "ended", "FAILED": "failed",
}  # fmt: skip


class ContentCodec(NamedTuple):
    """How requests are written and answers read, as for ordinary calls."""

    encode: Callable[[ChatRequest, str], dict[str, Any]]
    decode: Callable[[AsyncIterator[str], str], AsyncGenerator[ChatEvent, None]]


class GoogleLane:
    """One account's batches."""

    def __init__(self, name: str, api: HttpApi, codec: ContentCodec) -> None:
        self._name = name
        self._api = api
        self._codec = codec
        # What may be sent within a request is 20 MB; all answers come as one object, which is read whole.
        self.terms = LaneTerms(max_lines=2_000, max_bytes=15_000_000)

    def encode(self, request: ChatRequest, model: str) -> Mapping[str, Any]:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return self._codec.encode(request, model)

    def events(self, request: ChatRequest, model: str, body: Mapping[str, Any]) -> AsyncGenerator[ChatEvent, None]:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return self._codec.decode(once(body), model)

    async def upload(self, ctx: Context, key: str, lines: Sequence[LaneLine], model: str) -> Remote:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`. Nothing is sent: the order is noted."""
        return Remote(input=" ".join(str(line.number) for line in lines))

    async def find_upload(self, ctx: Context, key: str) -> Remote | None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return None

    async def create(self, ctx: Context, key: str, remote: Remote, lines: Sequence[LaneLine], model: str) -> Standing:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        requests = [{"request": line.body, "metadata": {"key": custom_id(key, line.number)}} for line in lines]
        body = {"batch": {"displayName": key, "inputConfig": {"requests": {"requests": requests}}}}
        path = f"/models/{quote(model.removeprefix('models/'), safe='')}:batchGenerateContent"
        return self._standing(await self._api.post_json(path, None, body, ctx=ctx))

    async def find(self, ctx: Context, key: str, lines: int) -> Standing | None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        after = ""
        for _ in range(_PAGES):
            answer = await self._api.get_json(f"/batches?pageSize=100{after}", ctx=ctx)
            rows = answer.get("operations") if isinstance(answer, dict) else None
            for row in rows if isinstance(rows, list) else ():
                if isinstance(row, dict) and _facts(row).get("displayName") == key:
                    return self._standing(row)
            token = answer.get("nextPageToken") if isinstance(answer, dict) else None
            if not isinstance(token, str) or not token:
                return None
            after = f"&pageToken={quote(token, safe='')}"
        return None

    async def look(self, ctx: Context, remote: Remote) -> Standing:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return self._standing(await self._api.get_json(self._of(remote), ctx=ctx))

    async def results(self, ctx: Context, key: str, remote: Remote, most: int) -> AsyncGenerator[LaneResult, None]:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        order = [int(number) for number in remote.input.split()]
        rows = _answers(await self._api.get_json(self._of(remote), ctx=ctx))[:most]
        for at, row in enumerate(rows):
            if not isinstance(row, dict):
                continue
            labels = row.get("metadata")
            number = number_of(key, labels.get("key")) if isinstance(labels, dict) else None
            if number is None and not labels and len(rows) == len(order):
                number = order[at]
            if number is None:
                continue
            if isinstance(row.get("response"), dict):
                yield LaneResult(number, row["response"])
            else:
                yield LaneResult(number, None, self._error(row.get("error")))

    async def cancel(self, ctx: Context, remote: Remote) -> None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        try:
            await self._api.post_json(f"{self._of(remote)}:cancel", None, {}, ctx=ctx)
        except InterlockError as error:
            if not over(error):
                raise

    async def remove(self, ctx: Context, remote: Remote) -> None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        if remote.batch:
            await self._api.delete(ctx, self._of(remote))

    def _of(self, remote: Remote) -> str:
        return f"/batches/{quote(remote.batch, safe='')}"

    def _standing(self, row: Any) -> Standing:
        name = row.get("name") if isinstance(row, dict) else None
        if not isinstance(name, str) or not 1 <= len(name) <= 200:
            raise ProviderError(f"provider {self._name!r} sent no id", provider=self._name)
        word = str(_facts(row).get("state") or "").removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
        state = _STATES.get(word, "working")
        error = row.get("error")
        reason = machine_code(error.get("status")) if isinstance(error, dict) else ""
        return Standing(state, Remote(name.removeprefix("batches/")), reason or "provider_batch_failed")

    def _error(self, error: object) -> InterlockError:
        # A google.rpc.Status: its code is gRPC's number.
        code = error.get("code") if isinstance(error, dict) else None
        status = {3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 16: 401}.get(code if isinstance(code, int) else -1, 503)
        return stream_error(self._name, error, status=status)


def _facts(row: Mapping[str, Any]) -> Mapping[str, Any]:
    found = row.get("metadata")
    return found if isinstance(found, dict) else {}


def _answers(row: Any) -> list[Any]:
    """The rows of a finished batch, wherever they stand in it."""
    if not isinstance(row, dict):
        return []
    for holder in (row.get("response"), _facts(row).get("output")):
        inlined = holder.get("inlinedResponses") if isinstance(holder, dict) else None
        rows = inlined.get("inlinedResponses") if isinstance(inlined, dict) else inlined
        if isinstance(rows, list):
            return rows
    return []
