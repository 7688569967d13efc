"""Files and batches, in OpenAI's shapes under ``/v1`` and in Anthropic's under ``/v1/messages/batches``."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.context import Context
from interlock.core.errors import Conflict, InvalidInput, NotFound, UnsupportedMediaType
from interlock.flows.batch import BatchLimits, cancel_batch, create_batch, delete_batch
from interlock.flows.batch_views import batch_view, file_view, message_batch_view
from interlock.gateway.fields import Loose, parsed
from interlock.gateway.inbound._openai import tags_of
from interlock.gateway.kept import Batch
from interlock.http.callers import app_of, context_of, read_json, read_stream
from interlock.server.answering import headers_of

__all__ = ["routes"]

# Any in this module: JSON objects on their way in and out.
_PURPOSES = ("batch", "user_data")
_JSONL = "application/x-jsonlines"


def _limits(request: Request) -> BatchLimits:
    settings = app_of(request).workspace.settings
    gateway = settings.gateway
    return BatchLimits(
        gateway.batch_concurrency,
        gateway.batch_max_lines,
        gateway.store_responses,
        settings.tenant,
        gateway.batch_poll_s,
    )


def _page(request: Request, most: int, default: int = 20) -> int:
    raw = request.query_params.get("limit", str(default))
    if not (raw.isascii() and raw.isdecimal() and len(raw) < 6) or not 1 <= int(raw) <= most:
        raise InvalidInput(f"limit is a number from 1 to {most:,}", param="limit")
    return int(raw)


async def upload(request: Request) -> Response:
    """``POST /v1/files``: a form with `file` and `purpose`."""
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    ctx = await context_of(request)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMediaType("send the file as multipart/form-data", param="Content-Type")

    async def pieces() -> Any:
        async for piece in read_stream(request):
            yield piece
        yield b""

    try:
        form = await MultiPartParser(request.headers, pieces(), max_files=1, max_fields=16).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise InvalidInput("the body is not a form that can be read", param="Content-Type") from error
    async with _closing(form):
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, UploadFile):
            raise InvalidInput("the form needs a file", param="file")
        if purpose not in _PURPOSES:
            raise InvalidInput(f"purpose is one of {', '.join(_PURPOSES)}", param="purpose")
        data = await file.read()
        kept = await app_of(request).parts.kept.keep_file(
            ctx, name=(file.filename or "file")[:255], purpose=str(purpose), data=data
        )
    return JSONResponse(file_view(kept), headers=headers_of(request))


# Any: starlette's FormData, imported late.
def _closing(form: Any) -> Any:
    from contextlib import AsyncExitStack

    stack = AsyncExitStack()
    stack.push_async_callback(form.close)
    return stack


async def list_files(request: Request) -> Response:
    """``GET /v1/files``."""
    ctx = await context_of(request)
    limit = _page(request, 10_000, 1000)
    query = request.query_params
    found = await app_of(request).parts.kept.files(
        ctx, purpose=query.get("purpose"), after=query.get("after"), limit=limit + 1
    )
    return _listed(request, [file_view(file) for file in found], limit)


def _listed(request: Request, rows: list[dict[str, Any]], limit: int, **more: object) -> Response:
    page = rows[:limit]
    body = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(rows) > limit,
    }
    return JSONResponse(body, headers=headers_of(request))


async def get_file(request: Request) -> Response:
    """``GET /v1/files/{id}``."""
    ctx = await context_of(request)
    kept = await app_of(request).parts.kept.file(ctx, request.path_params["id"])
    return JSONResponse(file_view(kept), headers=headers_of(request))


async def delete_file(request: Request) -> Response:
    """``DELETE /v1/files/{id}``."""
    ctx = await context_of(request)
    identity = request.path_params["id"]
    await app_of(request).parts.kept.delete_file(ctx, identity)
    return JSONResponse({"id": identity, "object": "file", "deleted": True}, headers=headers_of(request))


async def file_content(request: Request) -> Response:
    """``GET /v1/files/{id}/content``."""
    ctx = await context_of(request)
    data = await app_of(request).parts.kept.file_content(ctx, request.path_params["id"])
    return _download(request, data)


def _download(request: Request, data: bytes) -> Response:
    # What a caller uploaded must not run as a page of ours.
    headers = {**headers_of(request), "content-disposition": "attachment", "cache-control": "no-store"}
    return Response(data, headers=headers, media_type=_JSONL)


class _Extension(Loose):
    lane: str = Field(default="auto", max_length=16)


class _BatchRequest(Loose):
    input_file_id: str = Field(min_length=1, max_length=64)
    endpoint: str = Field(max_length=64)
    completion_window: str = Field(default="24h", max_length=16)
    metadata: dict[str, str] | None = None
    interlock: _Extension = _Extension()


async def create(request: Request) -> Response:
    """``POST /v1/batches``."""
    ctx = await context_of(request)
    body = parsed(_BatchRequest, await read_json(request))
    batch = await create_batch(
        app_of(request).parts,
        ctx,
        _limits(request),
        endpoint=body.endpoint,
        input_file=body.input_file_id,
        window=body.completion_window,
        metadata=tags_of(body.metadata),
        lane=body.interlock.lane,
    )
    return JSONResponse(batch_view(batch), headers=headers_of(request))


async def list_batches(request: Request) -> Response:
    """``GET /v1/batches``."""
    ctx = await context_of(request)
    limit = _page(request, 100)
    kept = app_of(request).parts.kept
    found = await kept.batches(ctx, style="openai", after=request.query_params.get("after"), limit=limit + 1)
    return _listed(request, [batch_view(batch) for batch in found], limit)


async def get(request: Request) -> Response:
    """``GET /v1/batches/{id}``."""
    ctx = await context_of(request)
    return JSONResponse(batch_view(await _found(request, ctx, "openai")), headers=headers_of(request))


async def cancel(request: Request) -> Response:
    """``POST /v1/batches/{id}/cancel``."""
    ctx = await context_of(request)
    batch = await _found(request, ctx, "openai")
    return JSONResponse(
        batch_view(await cancel_batch(app_of(request).parts, ctx, batch.id)), headers=headers_of(request)
    )


async def _found(request: Request, ctx: Context, style: str) -> Batch:
    batch = await app_of(request).parts.kept.batch(ctx, request.path_params["id"])
    if batch.style != style:
        raise NotFound(f"no batch {batch.id!r}", code="batch_not_found")
    return batch


class _MessageLine(Loose):
    custom_id: str = Field(min_length=1, max_length=64)
    params: dict[str, Any]


class _MessageBatch(Loose):
    requests: list[_MessageLine] = Field(min_length=1, max_length=100_000)
    interlock: _Extension = _Extension()


async def create_messages(request: Request) -> Response:
    """``POST /v1/messages/batches``."""
    ctx = await context_of(request)
    body = parsed(_MessageBatch, await read_json(request))
    app = app_of(request)
    lines = [
        {"custom_id": line.custom_id, "method": "POST", "url": "/v1/messages", "body": line.params}
        for line in body.requests
    ]
    data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    file = await app.parts.kept.keep_file(ctx, name="requests.jsonl", purpose="batch", data=data)
    batch = await create_batch(
        app.parts,
        ctx,
        _limits(request),
        endpoint="/v1/messages",
        input_file=file.id,
        style="anthropic",
        lane=body.interlock.lane,
        total=len(lines),
    )
    return _message_batch(request, batch)


def _message_batch(request: Request, batch: Batch) -> Response:
    return JSONResponse(message_batch_view(batch, str(request.base_url)), headers=headers_of(request))


async def get_messages(request: Request) -> Response:
    """``GET /v1/messages/batches/{id}``."""
    ctx = await context_of(request)
    return _message_batch(request, await _found(request, ctx, "anthropic"))


async def list_messages(request: Request) -> Response:
    """``GET /v1/messages/batches``."""
    ctx = await context_of(request)
    limit = _page(request, 1000)
    after = request.query_params.get("after_id")
    found = await app_of(request).parts.kept.batches(ctx, style="anthropic", after=after, limit=limit + 1)
    return _listed(request, [message_batch_view(batch, str(request.base_url)) for batch in found], limit)


async def cancel_messages(request: Request) -> Response:
    """``POST /v1/messages/batches/{id}/cancel``."""
    ctx = await context_of(request)
    batch = await _found(request, ctx, "anthropic")
    return _message_batch(request, await cancel_batch(app_of(request).parts, ctx, batch.id))


async def delete_messages(request: Request) -> Response:
    """``DELETE /v1/messages/batches/{id}``: one that has ended, with its results."""
    ctx = await context_of(request)
    batch = await _found(request, ctx, "anthropic")
    await delete_batch(app_of(request).parts, ctx, batch.id)
    return JSONResponse({"id": batch.id, "type": "message_batch_deleted"}, headers=headers_of(request))


async def message_results(request: Request) -> Response:
    """``GET /v1/messages/batches/{id}/results``: JSON lines."""
    ctx = await context_of(request)
    batch = await _found(request, ctx, "anthropic")
    if batch.is_open:
        raise Conflict("the batch has not ended yet", code="batch_in_progress", hint="ask again when it has ended")
    if batch.output_file is None:
        return _download(request, b"")
    return _download(request, await app_of(request).parts.kept.file_content(ctx, batch.output_file))


routes = [
    Route("/v1/files", upload, methods=["POST"]),
    Route("/v1/files", list_files, methods=["GET"]),
    Route("/v1/files/{id}", get_file, methods=["GET"]),
    Route("/v1/files/{id}", delete_file, methods=["DELETE"]),
    Route("/v1/files/{id}/content", file_content, methods=["GET"]),
    Route("/v1/batches", create, methods=["POST"]),
    Route("/v1/batches", list_batches, methods=["GET"]),
    Route("/v1/batches/{id}", get, methods=["GET"]),
    Route("/v1/batches/{id}/cancel", cancel, methods=["POST"]),
    Route("/v1/messages/batches", create_messages, methods=["POST"]),
    Route("/v1/messages/batches", list_messages, methods=["GET"]),
    Route("/v1/messages/batches/{id}", get_messages, methods=["GET"]),
    Route("/v1/messages/batches/{id}", delete_messages, methods=["DELETE"]),
    Route("/v1/messages/batches/{id}/cancel", cancel_messages, methods=["POST"]),
    Route("/v1/messages/batches/{id}/results", message_results, methods=["GET"]),
]
