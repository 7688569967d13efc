"""Mistral's batch jobs: files as at OpenAI, the model named by the job.

Source: the Mistral API reference for `/v1/files` and `/v1/batch/jobs`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.core.messages import ChatRequest
from interlock.gateway.lanes._files import LABEL, over
from interlock.gateway.lanes.openai import OpenAiLane
from interlock.gateway.lanes.ports import LaneLine, Remote, Standing, custom_id

__all__ = ["MistralLane"]

# Any in this module: JSON of a foreign service.
_JOBS = "/batch/jobs"
_PAGES = 5
_STATES: Mapping[str, Literal["working", "ended", "failed"]] = {
    "QUEUED": "working", "RUNNING": "working", "CANCELLATION_REQUESTED": "working",
    "SUCCESS": "ended", "TIMEOUT_EXCEEDED": "ended", "CANCELLED": "ended", "FAILED": "failed",
}  # fmt: skip


class MistralLane(OpenAiLane):
    """One account's jobs."""

    def encode(self, request: ChatRequest, model: str) -> Mapping[str, Any]:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return {name: value for name, value in super().encode(request, model).items() if name != "model"}

    def row(self, key: str, line: LaneLine) -> Mapping[str, Any]:
        """See :class:`interlock.gateway.lanes.openai.OpenAiLane`."""
        return {"custom_id": custom_id(key, line.number), "body": line.body}

    async def create(self, ctx: Context, key: str, remote: Remote, lines: Sequence[LaneLine], model: str) -> Standing:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        body = {
            "input_files": [remote.input],
            "model": model,
            "endpoint": self._endpoint,
            "metadata": {LABEL: key},
            "timeout_hours": 24,
        }
        return self._standing(await self._api.post_json(_JOBS, None, body, ctx=ctx))

    async def look(self, ctx: Context, remote: Remote) -> Standing:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        return self._standing(await self._api.get_json(f"{_JOBS}/{quote(remote.batch, safe='')}", ctx=ctx))

    async def cancel(self, ctx: Context, remote: Remote) -> None:
        """See :class:`interlock.gateway.lanes.ports.BatchLane`."""
        try:
            await self._api.post_json(f"{_JOBS}/{quote(remote.batch, safe='')}/cancel", None, {}, ctx=ctx)
        except InterlockError as error:
            if not over(error):
                raise

    def batches(self, ctx: Context) -> AsyncGenerator[Mapping[str, Any], None]:
        """See :class:`interlock.gateway.lanes.openai.OpenAiLane`."""
        return self._numbered(ctx, f"{_JOBS}?page_size=100")

    def files(self, ctx: Context) -> AsyncGenerator[Mapping[str, Any], None]:
        """See :class:`interlock.gateway.lanes.openai.OpenAiLane`."""
        return self._numbered(ctx, "/files?purpose=batch&page_size=100")

    async def _numbered(self, ctx: Context, path: str) -> AsyncGenerator[Mapping[str, Any], None]:
        for page in range(_PAGES):
            answer = await self._api.get_json(f"{path}&page={page}", ctx=ctx)
            rows = answer.get("data") if isinstance(answer, dict) else None
            found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            for row in found:
                yield row
            if len(found) < 100:
                return

    def _standing(self, row: Any) -> Standing:
        identity = self._id(row)
        files = [row.get("output_file"), row.get("error_file")]
        outputs = tuple(file for file in files if isinstance(file, str) and file)
        given = row.get("input_files")
        first = given[0] if isinstance(given, list) and given and isinstance(given[0], str) else ""
        state = _STATES.get(str(row.get("status")), "working")
        return Standing(state, Remote(identity, first, outputs), "provider_batch_failed" if state == "failed" else "")
