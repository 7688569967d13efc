"""Admin REST under `/api/v1`: what the console and the command line show, for machines."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock import __version__
from interlock.access.types import ApiKey
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import DocumentId, JobId
from interlock.core.passages import Span
from interlock.flows.ingest import enqueue_as_asked, erase_document, review_document
from interlock.gateway.fields import field_error
from interlock.http.callers import app_of, context_of, read_json, read_optional
from interlock.knowledge.cleaning.types import Verdict
from interlock.knowledge.types import DocumentInfo, PageBoxes
from interlock.stores.compute.base import ExecutorKind
from interlock.stores.compute.settings import ComputeChoice
from interlock.stores.events.base import TraceFilter
from interlock.stores.jobs.base import Job

__all__ = ["routes"]

# Any in this module: JSON objects on their way out.
_SEES_TRACES = (Role.VIEWER, Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)


def _limit(request: Request, most: int = 500) -> int:
    raw = request.query_params.get("limit", "50")
    if not (raw.isascii() and raw.isdecimal()) or not 1 <= int(raw) <= most:
        raise InvalidInput(f"limit is a number from 1 to {most}", param="limit")
    return int(raw)


def _time(request: Request, name: str) -> datetime | None:
    raw = request.query_params.get(name)
    if raw is None:
        return None
    try:
        value = datetime.fromisoformat(raw)
    except ValueError as error:
        raise InvalidInput(f"{name} is an ISO 8601 time, e.g. 2026-11-22T10:00:00Z", param=name) from error
    value = value if value.tzinfo else value.replace(tzinfo=UTC)
    if not 1970 <= value.year <= 2200:
        raise InvalidInput(f"{name} lies outside 1970 to 2200", param=name)
    return value


async def traces(request: Request) -> Response:
    """``GET /api/v1/traces``: newest first; `cursor` of the last row pages on as `before`."""
    ctx = await context_of(request)
    ctx.require(*_SEES_TRACES)
    query = request.query_params
    where = TraceFilter(
        since=_time(request, "since"),
        until=_time(request, "until"),
        app=query.get("app"),
        release=query.get("release"),
        status=query.get("status"),
        before=query.get("before"),
        limit=_limit(request),
    )
    observe = app_of(request).parts.observe
    rows = observe.visible_rows(ctx, await observe.traces(ctx, where))
    return JSONResponse({"data": [row._asdict() for row in rows]})


async def trace(request: Request) -> Response:
    """``GET /api/v1/traces/{id}``: all spans of one trace, its ledger rows."""
    ctx = await context_of(request)
    ctx.require(*_SEES_TRACES)
    parts = app_of(request).parts
    spans = await parts.observe.trace(ctx, request.path_params["id"])
    # What an ingest paid for is how much it read.
    ledger = await parts.cost.ledger(ctx, trace_id=spans[0].trace_id) if parts.observe.may_count(ctx, spans) else []
    spans = parts.observe.visible(ctx, spans)
    return JSONResponse(
        {
            "trace_id": spans[0].trace_id,
            "spans": [asdict(span) for span in spans],
            "ledger": [
                {
                    "id": entry.id,
                    "provider": entry.provider,
                    "model": entry.model,
                    "usage": msgspec.structs.asdict(entry.usage),
                    "cost_usd": None if entry.cost is None else f"{entry.cost.decimal():f}",
                    "price": entry.price,
                    "outcome": entry.outcome,
                }
                for entry in ledger
            ],
        }
    )


async def apps(request: Request) -> Response:
    """``GET /api/v1/apps``."""
    ctx = await context_of(request)
    releases = app_of(request).parts.releases
    data = []
    for source in releases.apps(ctx):
        channels = await releases.channels(ctx, source.name)
        data.append(
            {
                "name": source.name,
                "description": source.description,
                "default_channel": source.default_channel,
                "channels": {channel.name: channel.release for channel in channels},
            }
        )
    return JSONResponse({"data": data})


async def documents(request: Request) -> Response:
    """``GET /api/v1/documents``: what the caller may see of each document."""
    ctx = await context_of(request)
    infos = await app_of(request).parts.knowledge.documents(ctx, collection=request.query_params.get("collection"))
    return JSONResponse({"data": [_document(info) for info in infos]})


async def document(request: Request) -> Response:
    """``GET /api/v1/documents/{id}``: its facts and its extracted text."""
    ctx = await context_of(request)
    knowledge = app_of(request).parts.knowledge
    identity = DocumentId(request.path_params["id"])
    text = await knowledge.document_text(ctx, identity, request.query_params.get("digest"))
    info = await knowledge.document(ctx, identity)
    return JSONResponse({**_document(info), "digest": text.digest, "text": text.text})


async def document_boxes(request: Request) -> Response:
    """``GET /api/v1/documents/{id}/boxes?start=&end=&digest=``: where characters of its text stand on its pages."""
    ctx = await context_of(request)
    query = request.query_params
    span = Span(_offset(query.get("start", ""), "start"), _offset(query.get("end", ""), "end"))
    identity = DocumentId(request.path_params["id"])
    pages = await app_of(request).parts.knowledge.span_boxes(ctx, identity, span, query.get("digest"))
    return JSONResponse({"data": [_page_boxes(page) for page in pages]})


async def reviews(request: Request) -> Response:
    """``GET /api/v1/reviews?collection=&decided=``: documents that a person should decide on; facts, never text."""
    ctx = await context_of(request)
    query = request.query_params
    found = await app_of(request).parts.knowledge.reviews(
        ctx, collection=query.get("collection"), decided=query.get("decided") == "true"
    )
    return JSONResponse({"data": [asdict(item) for item in found]})


class _ReviewRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    verdict: Verdict
    text_digest: str | None = Field(default=None, max_length=80)


async def review(request: Request) -> Response:
    """``POST /api/v1/documents/{id}/review``: ``{"verdict": "released" | "kept"}``, about the text it has now."""
    ctx = await context_of(request)
    try:
        body = _ReviewRequest.model_validate(await read_json(request))
    except ValidationError as error:
        raise field_error(error) from error
    item = await review_document(
        app_of(request).parts,
        ctx,
        DocumentId(request.path_params["id"]),
        body.verdict,
        text_digest=body.text_digest,
    )
    return JSONResponse(asdict(item))


def _offset(value: str, name: str) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) < 12):
        raise InvalidInput(f"{name} is a character offset, not {value[:40]!r}", param=name)
    return int(value)


def _page_boxes(page: PageBoxes) -> dict[str, Any]:
    boxes = [
        {"start": b.start, "end": b.end, "left": b.left, "top": b.top, "right": b.right, "bottom": b.bottom}
        for b in page.boxes
    ]
    return {"page": page.page, "width": page.width, "height": page.height, "boxes": boxes}


def _document(info: DocumentInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "collection": info.collection,
        "source": info.source,
        "title": info.title,
        "media_type": info.media_type,
        "pages": info.pages,
        "passages": info.passages,
        "size_bytes": info.size_bytes,
        "readers": sorted(info.readers),
        "languages": list(info.languages),
        "metadata": dict(info.metadata),
        "quality": info.quality,
        "review": [{"page": r.page, "score": r.score, "reasons": list(r.reasons)} for r in info.review],
        "state": info.state,
        "cleaning": asdict(info.cleaning),
        "error_code": info.error_code or None,
        "error_message": info.error_message or None,
        "ingested_at": None if info.ingested_at is None else info.ingested_at.isoformat(),
    }


class _KeyRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=128)
    roles: list[Role] = Field(default_factory=list)
    days: float | None = Field(default=None, gt=0, le=3650)


async def create_key(request: Request) -> Response:
    """``POST /api/v1/keys``: the secret is in the answer, once."""
    ctx = await context_of(request)
    try:
        body = _KeyRequest.model_validate(await read_json(request))
    except ValidationError as error:
        raise field_error(error) from error
    new = await app_of(request).parts.access.create_key(ctx, name=body.name, roles=body.roles, days=body.days)
    return JSONResponse({**_key(new.key), "secret": new.secret}, 201)


async def keys(request: Request) -> Response:
    """``GET /api/v1/keys``."""
    ctx = await context_of(request)
    return JSONResponse({"data": [_key(key) for key in await app_of(request).parts.access.keys(ctx)]})


async def revoke_key(request: Request) -> Response:
    """``DELETE /api/v1/keys/{id}``."""
    ctx = await context_of(request)
    return JSONResponse(_key(await app_of(request).parts.access.revoke_key(ctx, request.path_params["id"])))


def _key(key: ApiKey) -> dict[str, Any]:
    def iso(at: datetime | None) -> str | None:
        return None if at is None else at.isoformat()

    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "roles": sorted(key.roles),
        "state": key.state(now()),
        "created_at": iso(key.created_at),
        "expires_at": iso(key.expires_at),
        "revoked_at": iso(key.revoked_at),
        "last_used_at": iso(key.last_used_at),
    }


async def delete_document(request: Request) -> Response:
    """``DELETE /api/v1/documents/{id}``: passages and every stored version; an ingest brings a file that is still
    there back.
    """
    ctx = await context_of(request)
    info = await erase_document(app_of(request).parts, ctx, DocumentId(request.path_params["id"]))
    return JSONResponse({"id": info.id, "collection": info.collection, "source": info.source, "deleted": True})


async def start_ingest(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/ingest``: queues a job; asking again while it runs gives the same job,
    or 409 when that was asked for with another body.

    The body may be empty, or say where files are read and embedded: ``{"executor": "processes", "workers": 4}``, which
    needs the role operator, and that all or most documents of a source may go: ``{"allow_removals": true}``.
    """
    ctx = await context_of(request)
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    app = app_of(request)
    if ctx.tenant != app.workspace.settings.tenant:
        # The folders of this workspace are its own tenant's: the worker reads them for that tenant alone.
        raise NotFound("your tenant has no collections in this workspace", param="collection")
    spec = app.source_spec(request.path_params["name"])
    wanted = await read_optional(request, _IngestRequest)
    compute = ComputeChoice(wanted.executor, wanted.workers) if wanted.executor or wanted.workers else None
    job = await enqueue_as_asked(app.parts, ctx, spec, compute=compute, allow_removals=wanted.allow_removals)
    return JSONResponse(_job(ctx, job), 202)


class _IngestRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    executor: ExecutorKind | None = None
    workers: int | None = Field(default=None, ge=1, le=1024)
    allow_removals: bool = False


async def jobs(request: Request) -> Response:
    """``GET /api/v1/jobs``."""
    ctx = await context_of(request)
    ctx.require(*_SEES_TRACES)
    rows = await app_of(request).parts.jobs.list(ctx.tenant, limit=_limit(request))
    return JSONResponse({"data": [_job(ctx, job) for job in rows]})


async def job(request: Request) -> Response:
    """``GET /api/v1/jobs/{id}``."""
    ctx = await context_of(request)
    ctx.require(*_SEES_TRACES)
    return JSONResponse(_job(ctx, await app_of(request).parts.jobs.get(ctx.tenant, JobId(request.path_params["id"]))))


async def cancel_job(request: Request) -> Response:
    """``DELETE /api/v1/jobs/{id}``: stops at the next safe point."""
    ctx = await context_of(request)
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    return JSONResponse(
        _job(ctx, await app_of(request).parts.jobs.cancel(ctx.tenant, JobId(request.path_params["id"])))
    )


def _job(ctx: Context, job: Job) -> dict[str, Any]:
    brief = {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "created_at": job.created_at.isoformat(),
        "updated_at": job.updated_at.isoformat(),
    }
    # A run names documents in its progress and in what failed, and counts them: that is for those who oversee them.
    if not ctx.principal.has(Role.DEVELOPER, Role.OPERATOR):
        return brief
    return {
        **brief,
        "attempt": job.attempt,
        "done": job.done,
        "total": job.total,
        "message": job.message,
        "error_code": job.error_code or None,
        "error_message": job.error_message or None,
        "result": dict(job.result),
    }


async def spend(request: Request) -> Response:
    """``GET /api/v1/spend?by=app|model|provider|principal|end_user&user=ID``: sums of the ledger.

    End users stand in it under pseudonyms; `user` asks for one by id.
    """
    ctx = await context_of(request)
    ctx.require(*_SEES_TRACES)
    by = request.query_params.get("by", "app")
    if by not in {"app", "model", "provider", "principal", "end_user"}:
        raise InvalidInput("by is app, model, provider, principal or end_user", param="by")
    user = request.query_params.get("user")
    if by == "end_user" or user is not None:
        # Who asks how often is personal, also under a pseudonym.
        ctx.require(Role.AUDITOR, Role.RISK, Role.OPERATOR)
    until = _time(request, "until") or now()
    since = _time(request, "since") or until - timedelta(days=30)
    # The set above is the type's; mypy cannot narrow a str to it.
    rows = await app_of(request).parts.cost.spend(ctx, by=by, since=since, until=until, user=user)  # type: ignore[arg-type]
    return JSONResponse(
        {
            "data": [
                {
                    "key": row.key,
                    "calls": row.calls,
                    "unpriced_calls": row.unpriced_calls,
                    "input_tokens": row.input_tokens,
                    "output_tokens": row.output_tokens,
                    "cost_usd": f"{row.cost.decimal():f}",
                }
                for row in rows
            ]
        }
    )


async def audit(request: Request) -> Response:
    """``GET /api/v1/audit``: newest first; `before` pages on by `seq`."""
    ctx = await context_of(request)
    ctx.require(Role.AUDITOR, Role.RISK, Role.OPERATOR)
    before = request.query_params.get("before")
    if before is not None and (not before.isdecimal() or len(before) > 18):
        raise InvalidInput("before is the seq of a line", param="before")
    lines = await app_of(request).parts.governance.lines(
        ctx,
        before=None if before is None else int(before),
        action=request.query_params.get("action"),
        limit=_limit(request),
    )
    return JSONResponse({"data": [{**asdict(line), "at": line.at.isoformat()} for line in lines]})


async def version(request: Request) -> Response:
    """``GET /api/v1/version``."""
    await context_of(request)
    return JSONResponse({"version": __version__, "schema": await app_of(request).sql.revision()})


routes = [
    Route("/api/v1/traces", traces),
    Route("/api/v1/traces/{id}", trace),
    Route("/api/v1/apps", apps),
    Route("/api/v1/documents", documents),
    Route("/api/v1/documents/{id}", document),
    Route("/api/v1/documents/{id}/boxes", document_boxes),
    Route("/api/v1/documents/{id}/review", review, methods=["POST"]),
    Route("/api/v1/reviews", reviews),
    Route("/api/v1/documents/{id}", delete_document, methods=["DELETE"]),
    Route("/api/v1/keys", keys),
    Route("/api/v1/keys", create_key, methods=["POST"]),
    Route("/api/v1/keys/{id}", revoke_key, methods=["DELETE"]),
    Route("/api/v1/collections/{name}/ingest", start_ingest, methods=["POST"]),
    Route("/api/v1/jobs", jobs),
    Route("/api/v1/jobs/{id}", job),
    Route("/api/v1/jobs/{id}", cancel_job, methods=["DELETE"]),
    Route("/api/v1/spend", spend),
    Route("/api/v1/audit", audit),
    Route("/api/v1/version", version),
]
