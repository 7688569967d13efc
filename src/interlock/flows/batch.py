"""Batches: many requests in one file, run by a worker with the identity, limits and budgets of whoever made them.

Durable: each line's result is stored under the line's number as soon as it is there, so after a crash another worker
runs only the lines that have none, and no line appears twice. A line under way when a worker dies is asked again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import anyio

from interlock.core.audit import AuditEvent
from interlock.core.clock import Deadline, now
from interlock.core.context import Context
from interlock.core.errors import (
    BudgetExceeded,
    Conflict,
    InterlockError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from interlock.core.ids import TenantId, new_id, new_trace_id
from interlock.flows.embed import embed
from interlock.flows.parts import Parts
from interlock.flows.respond import Responding, codec
from interlock.flows.responses import continued
from interlock.gateway.fields import Loose, parsed
from interlock.gateway.kept import Batch, Line
from interlock.stores.jobs.base import Job

__all__ = [
    "ENDPOINTS",
    "LEASE_S",
    "BatchLimits",
    "cancel_batch",
    "create_batch",
    "kind_of",
    "read_lines",
    "requeue_lost",
    "run_batch",
]

# Any in this module: JSON objects.
ENDPOINTS: Mapping[str, str] = {
    "/v1/chat/completions": "openai.chat",
    "/v1/responses": "openai.responses",
    "/v1/messages": "anthropic.messages",
    "/v1/embeddings": "",
}
_log = logging.getLogger("interlock.batch")
LEASE_S = 30.0
_BEAT_S = 5.0
_TRIES = 3
_PAUSE_S = 5.0
_RETRY_S = 30.0
_MAX_ERRORS = 20


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """From the settings of the gateway."""

    concurrency: int
    max_lines: int
    store_responses: bool
    home: TenantId
    """The workspace's own tenant: its worker runs the batches that were made here."""


def kind_of(home: TenantId) -> str:
    """Kind of the jobs of batches made in the workspace of `home`, whichever tenant they belong to."""
    return f"batch@{home}"


class _Line(Loose):
    custom_id: str
    method: str = "POST"
    url: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Asked:
    number: int
    custom_id: str
    body: dict[str, Any]


async def create_batch(
    parts: Parts,
    ctx: Context,
    limits: BatchLimits,
    *,
    endpoint: str,
    input_file: str,
    window: str = "24h",
    metadata: Mapping[str, str] | None = None,
    style: str = "openai",
) -> Batch:
    """Queue a batch over a stored file.

    Raises: InvalidInput: an endpoint without batches, a wrong window. NotFound: no such file of this caller.
    """
    if endpoint not in ENDPOINTS:
        raise InvalidInput(f"endpoint is one of {', '.join(ENDPOINTS)}", param="endpoint")
    window_s = _window_s(window)
    await parts.kept.file(ctx, input_file, param="input_file_id")
    batch = await parts.kept.keep_batch(
        ctx,
        style=style,
        endpoint=endpoint,
        input_file=input_file,
        window=window,
        window_s=window_s,
        metadata=metadata or {},
        home=limits.home,
    )
    queued = await _enqueue(parts, batch, limits.home)
    await _audit(parts, ctx, batch, "batch.create")
    return queued


async def _enqueue(parts: Parts, batch: Batch, home: TenantId) -> Batch:
    # A worker that dies is replaced at once; only the window ends a batch.
    job = await parts.jobs.enqueue(batch.tenant, kind_of(home), {"batch": batch.id}, key=batch.id, max_attempts=10_000)
    return await parts.kept.update_batch(batch, job=job.id)


async def requeue_lost(parts: Parts, limits: BatchLimits) -> int:
    """Give batches to the queue whose process died before it could; gives their number."""
    lost = await parts.kept.unqueued(limits.home)
    for batch in lost:
        await _enqueue(parts, batch, limits.home)
    return len(lost)


def _window_s(window: str) -> float:
    unit = {"h": 3600, "d": 86_400}.get(window[-1:], 0)
    number = window[:-1]
    if not unit or not (number.isascii() and number.isdecimal() and len(number) < 4) or not int(number) >= 1:
        raise InvalidInput("completion_window is a number of hours or days, as 24h", param="completion_window")
    seconds = int(number) * unit
    if seconds > 14 * 86_400:
        raise InvalidInput("completion_window is at most 14d", param="completion_window")
    return float(seconds)


async def cancel_batch(parts: Parts, ctx: Context, identity: str) -> Batch:
    """Stop a batch: lines under way are finished, the others are not begun.

    Raises: NotFound. Conflict: it has ended.
    """
    batch = await parts.kept.batch(ctx, identity)
    if not batch.is_open:
        raise Conflict(f"the batch has {batch.state} already", code="batch_ended")
    batch = await parts.kept.mark_batch(batch, "cancelling", only_in=("validating", "in_progress"))
    await _audit(parts, ctx, batch, "batch.cancel")
    return batch


async def _audit(parts: Parts, ctx: Context, batch: Batch, action: str, **details: str | int | bool) -> None:
    user = ctx.end_user.id if ctx.end_user else ""
    event = AuditEvent(
        ctx.tenant, ctx.principal.id, action, batch.id, "ok", details, end_user=user, trace_id=ctx.trace_id
    )
    await parts.governance.append(event)


async def run_batch(parts: Parts, base: Context, job: Job, limits: BatchLimits) -> None:
    """Run a claimed job to its end.

    Args:
        base: whose trace sink is used.

    Raises: Conflict: the lease was lost to another worker, which goes on.
    """
    try:
        batch = await parts.kept.batch_of_job(job.tenant, str(job.payload.get("batch")))
    except NotFound:
        # Removed by its age or with its owner.
        await parts.jobs.cancelled(job)
        return
    if not batch.is_open:
        await parts.jobs.succeed(job, {"state": batch.state})
        return
    ctx = await parts.kept.context_of(batch, base)
    run = _Run(parts, ctx, job, batch, limits)
    try:
        ended = await run.to_end()
    except Conflict:
        raise
    except NotFound as error:
        if error.code != "batch_not_found":
            raise
        # Its owner was forgotten while it ran.
        await parts.jobs.cancelled(job)
        return
    except Unavailable as error:
        # The database or the disk, not the batch: what has no result yet is run when it is back.
        await parts.jobs.fail(job, code=error.code, message=error.message, retry_in_s=_RETRY_S)
        return
    except InterlockError as error:
        problem = {"code": error.code, "message": str(error), "param": error.param, "line": None}
        failed = await parts.kept.update_batch(run.batch, errors=[problem])
        ended = await parts.kept.mark_batch(failed, "failed")
    await parts.jobs.succeed(job, {"state": ended.state, "completed": ended.completed, "failed": ended.failed})
    await _audit(parts, ctx, ended, "batch.end", state=ended.state, completed=ended.completed, failed=ended.failed)


class _Run:
    """One run of one batch."""

    def __init__(self, parts: Parts, ctx: Context, job: Job, batch: Batch, limits: BatchLimits) -> None:
        self._parts = parts
        self._ctx = ctx
        self._job = job
        self._limits = limits
        self._paused_until = 0.0
        self._stop = ""
        """Why no more lines are begun: `cancelling`, `expired`, `revoked`, or empty."""
        self.batch = batch

    async def to_end(self) -> Batch:
        """Validate, run what has no result yet, write the files."""
        kept = self._parts.kept
        content = await kept.file_content(self._ctx, self.batch.input_file)
        lines, errors = read_lines(content, self.batch, self._limits.max_lines)
        if errors:
            failed = await kept.update_batch(self.batch, errors=errors)
            return await kept.mark_batch(failed, "failed")
        self.batch = await kept.update_batch(self.batch, total=len(lines))
        self.batch = await kept.mark_batch(self.batch, "in_progress", only_in=("validating",))
        done = await kept.finished_lines(self.batch)
        await self._run_all([line for line in lines if line.number not in done])
        if self._stop == "revoked":
            raise InvalidInput("the API key that made this batch is not valid any more", code="invalid_api_key")
        return await self._write_files(lines)

    async def _run_all(self, lines: list[_Asked]) -> None:
        waiting = iter(lines)
        await self._look()
        try:
            async with anyio.create_task_group() as beat:
                beat.start_soon(self._beat)
                async with anyio.create_task_group() as group:
                    for _ in range(min(self._limits.concurrency, len(lines))):
                        group.start_soon(self._take, waiting)
                beat.cancel_scope.cancel()
        except ExceptionGroup as failures:
            raise _first(failures) from failures

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            try:
                await self._look()
            except Unavailable as error:
                # Lines under way are paid for: they go on, and a lease that ran out meanwhile is a Conflict later.
                _log.warning("the lease of %s was not renewed: %s", self.batch.id, error.code)

    async def _look(self) -> None:
        """Renew the lease, save progress, see whether to stop. Raises: Conflict: the lease was lost."""
        self.batch = await self._parts.kept.batch_of_job(self.batch.tenant, self.batch.id)
        done = self.batch.completed + self.batch.failed
        job = await self._parts.jobs.heartbeat(self._job, lease_s=LEASE_S, done=done, total=self.batch.total)
        if self.batch.state == "cancelling" or job.cancel_requested:
            self._stop = "cancelling"
        elif now() >= self.batch.ends_at:
            self._stop = "expired"
        elif not await self._parts.access.still_valid(self._ctx):
            self._stop = "revoked"

    async def _take(self, waiting: Any) -> None:
        for line in waiting:
            await self._wait()
            if self._stop:
                return
            result = await self._line(line)
            if result is None:
                return
            await self._keep(result)

    async def _keep(self, result: Line) -> None:
        """Store a result; a database that is away is waited for: the answer is paid for. Raises: Unavailable."""
        for tries in range(_TRIES):
            try:
                await self._parts.kept.keep_line(self.batch, result)
            except Unavailable:
                if tries == _TRIES - 1:
                    raise
                await asyncio.sleep(2.0**tries)
            else:
                return

    async def _wait(self) -> None:
        """Until the pause after a refusal is over, or the batch stops."""
        loop = asyncio.get_running_loop()
        # A pause may be lengthened or ended by others meanwhile: it is looked at again, and not only slept through.
        while not self._stop and (pause := self._paused_until - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(pause, _BEAT_S))

    async def _line(self, line: _Asked) -> Line | None:
        """The result of one line; None when the batch stops before there is one."""
        tries = 0
        while True:
            try:
                body = await self._answer(line)
                return Line(line.number, True, self._written(line, 200, body))
            except BudgetExceeded as error:
                return self._refused(line, error)
            except LimitExceeded as error:
                # Everybody waits: the limit is the caller's or the provider's, not this line's.
                loop = asyncio.get_running_loop()
                self._paused_until = max(self._paused_until, loop.time() + (error.retry_after_s or _PAUSE_S))
            except InterlockError as error:
                tries += 1
                if not error.retryable or tries >= _TRIES:
                    return self._refused(line, error)
                await asyncio.sleep(2.0**tries)
            except Exception as error:  # noqa: BLE001 - a border: one line must not end the batch
                _log.error("line %d of %s failed: %s", line.number, self.batch.id, type(error).__name__, exc_info=error)
                return self._refused(
                    line, InterlockError("something went wrong here; the server's log has the details")
                )
            await self._wait()
            if self._stop:
                return None

    async def _answer(self, line: _Asked) -> dict[str, Any]:
        """The answer to one line, by the same flow as a request over HTTP. Raises: what that flow raises."""
        parts, endpoint = self._parts, self.batch.endpoint
        ctx = replace(self._ctx, deadline=Deadline.after(3600.0), request_id=new_id("req"), trace_id=new_trace_id())
        if endpoint == "/v1/embeddings":
            return await _embeddings(parts, ctx, line.body)
        wire = codec(ENDPOINTS[endpoint])
        asked = wire.decode({**line.body, "stream": False})
        # Labels of the batch count as the caller's, besides those of the line.
        tags = {**self.batch.metadata, **asked.request.tags}
        asked = replace(asked, request=replace(asked.request, tags=tags))
        keep = None
        if wire.name == "openai.responses":
            if asked.options["background"]:
                raise InvalidInput("a line of a batch is not made in the background as well", param="background")
            asked, keep, _ = await continued(parts, ctx, asked, may_store=self._limits.store_responses)
        release = None
        if asked.request.model.startswith("app/"):
            release = await parts.releases.resolve(ctx, asked.request.model)
        return await Responding(parts, ctx, wire, asked, release, keep=keep).whole()

    def _refused(self, line: _Asked, error: InterlockError) -> Line:
        wire = ENDPOINTS[self.batch.endpoint] or "openai.chat"
        fault = codec(wire).fault(error, "")
        return Line(line.number, False, self._written(line, fault.status, dict(fault.body)))

    def _written(self, line: _Asked, status: int, body: dict[str, Any]) -> dict[str, Any]:
        if self.batch.style == "anthropic":
            result = {"type": "succeeded", "message": body} if status == 200 else {"type": "errored", "error": body}
            return {"custom_id": line.custom_id, "result": result}
        response = {"status_code": status, "request_id": new_id("req"), "body": body}
        return {"id": new_id("batch_req"), "custom_id": line.custom_id, "response": response, "error": None}

    async def _write_files(self, lines: list[_Asked]) -> Batch:
        kept = self._parts.kept
        self.batch = await kept.mark_batch(self.batch, "finalizing", only_in=("in_progress",))
        results = await kept.lines(self.batch)
        missing = self._missing(lines, {result.number for result in results})
        if self.batch.style == "anthropic":
            written = {"output": [result.body for result in results] + missing, "error": []}
        else:
            written = {
                "output": [result.body for result in results if result.ok],
                "error": [result.body for result in results if not result.ok] + missing,
            }
        files: dict[str, str | None] = {}
        for name, rows in written.items():
            if not rows:
                files[name] = None
                continue
            data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
            file = await kept.keep_file(
                self._ctx, name=f"{self.batch.id}_{name}.jsonl", purpose="batch_output", data=data
            )
            files[name] = file.id
        self.batch = await kept.update_batch(self.batch, output_file=files["output"], error_file=files["error"])
        state = {"cancelling": "cancelled", "expired": "expired"}.get(self._stop, "completed")
        self.batch = await kept.mark_batch(self.batch, state)
        await kept.drop_lines(self.batch)
        return self.batch

    def _missing(self, lines: list[_Asked], done: set[int]) -> list[dict[str, Any]]:
        """Rows of the lines that never ran."""
        rows: list[dict[str, Any]] = []
        code, kind = ("batch_expired", "expired") if self._stop == "expired" else ("batch_cancelled", "canceled")
        for line in lines:
            if line.number in done:
                continue
            if self.batch.style == "anthropic":
                rows.append({"custom_id": line.custom_id, "result": {"type": kind}})
            else:
                error = {"code": code, "message": "this line was not run"}
                rows.append({"id": new_id("batch_req"), "custom_id": line.custom_id, "response": None, "error": error})
        return rows


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    """A lost lease before all else, then any of our own errors."""
    found: list[Exception] = []
    for error in failures.exceptions:
        found.append(_first(error) if isinstance(error, ExceptionGroup) else error)
    ours = [error for error in found if isinstance(error, InterlockError)]
    return next((error for error in ours if isinstance(error, Conflict)), (ours or found)[0])


async def _embeddings(parts: Parts, ctx: Context, body: Mapping[str, Any]) -> dict[str, Any]:
    model, given = body.get("model"), body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(model, str) or not model:
        raise InvalidInput("model is missing", param="model")
    if not isinstance(texts, list) or not 1 <= len(texts) <= 2048 or not all(isinstance(t, str) and t for t in texts):
        raise InvalidInput("input holds 1 to 2,048 texts", param="input")
    result = await embed(parts, ctx, model, texts)
    tokens = result.usage.input_tokens
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(result.vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def read_lines(content: bytes, batch: Batch, max_lines: int) -> tuple[list[_Asked], list[dict[str, Any]]]:
    """Lines of an input file, and what is wrong with them; `line` counts from 1."""
    lines: list[_Asked] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, raw in enumerate(content.splitlines(), 1):
        if not raw.strip():
            continue
        if len(lines) >= max_lines:
            errors.append(_problem("too_many_lines", f"a batch has at most {max_lines:,} lines", number))
            break
        try:
            line = parsed(_Line, json.loads(raw))
            _check_line(line, batch.endpoint, seen)
        except (ValueError, RecursionError):
            errors.append(_problem("invalid_json_line", "the line is not JSON", number))
        except InvalidInput as error:
            errors.append(_problem("invalid_line", error.message, number, error.param))
        else:
            seen.add(line.custom_id)
            lines.append(_Asked(number, line.custom_id, line.body))
        if len(errors) >= _MAX_ERRORS:
            break
    if not lines and not errors:
        errors.append(_problem("empty_file", "the file has no lines", None))
    return lines, errors


def _check_line(line: _Line, endpoint: str, seen: set[str]) -> None:
    if not 1 <= len(line.custom_id) <= 512:
        raise InvalidInput("custom_id has 1 to 512 characters", param="custom_id")
    if line.custom_id in seen:
        raise InvalidInput("custom_id is there twice", param="custom_id")
    if line.url != endpoint:
        raise InvalidInput(f"url must be {endpoint}", param="url")
    if line.method.upper() != "POST":
        raise InvalidInput("method must be POST", param="method")
    if line.body.get("stream"):
        raise InvalidInput("a line of a batch cannot stream", param="body.stream")


def _problem(code: str, message: str, line: int | None, param: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}
