"""Documents: what is known, who may read it, and the text with the cited span."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast, get_args
from urllib.parse import quote

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.access.types import DirectoryUser
from interlock.app import App
from interlock.console.rendering import fragment, render
from interlock.console.session import Caller, Form, form_of, is_fragment, page, reader_of, text_field
from interlock.core.audit import AuditEvent
from interlock.core.context import Context, Role
from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.core.ids import DocumentId, JobId
from interlock.core.passages import Passage, Span
from interlock.flows.ingest import KIND, enqueue_as_asked, review_document, sync_source
from interlock.http.callers import app_of
from interlock.http.security import PAGE_HEADERS
from interlock.knowledge.cleaning.types import Verdict
from interlock.knowledge.removals import TOO_MANY
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.types import HEADING_SEPARATOR, DocumentInfo, SourceStatus
from interlock.stores.compute.base import ExecutorKind
from interlock.stores.compute.settings import ComputeChoice
from interlock.stores.jobs.base import Job

__all__ = ["collections_of", "routes", "users_of", "withdrawn_or_failed"]

_MAY_INGEST = (Role.DEVELOPER, Role.OPERATOR)
_MAY_REVIEW = (Role.DEVELOPER, Role.OPERATOR, Role.REVIEWER)
_EXECUTORS: tuple[ExecutorKind, ...] = get_args(ExecutorKind)
_MOST_WORKERS = 1024
_WINDOW = 60_000
"""Characters of a long document that one page shows around the cited span."""
_CELLS = " | "
_NO_LONGER = frozenset({"withdrawn", "superseded", "obsolete", "archived"})


class Block(NamedTuple):
    """A piece of a document's text as it is laid out."""

    kind: Literal["heading", "text", "rows", "page"]
    html: tuple[Markup, ...]
    """Lines, already escaped and marked; of `rows`, one table row each."""
    level: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """A document's text laid out, with the cited span marked."""

    blocks: tuple[Block, ...]
    cut_before: bool
    cut_after: bool
    found: bool
    """True when there is a span to show and it lies in this text."""


async def list_documents(request: Request, caller: Caller) -> Response:
    """``GET /documents``."""
    app = app_of(request)
    query = request.query_params
    user = query.get("as", "") if caller.may_act_as else ""
    ctx = reader_of(request, caller, user)
    # Looking as somebody shows what that person sees, not what an overseer sees.
    infos = await app.parts.knowledge.documents(ctx)
    if user:
        infos = [info for info in infos if info.readers & ctx.readers]
    collections = _known_collections(app, infos, caller)
    wanted = (query.get("collection", ""), query.get("state", ""), query.get("q", "").strip())
    shown = [info for info in infos if _matches(info, *wanted)]
    return render(
        request,
        caller,
        "documents.html",
        infos=shown,
        total=len(infos),
        collections=collections,
        collection=wanted[0],
        state=wanted[1],
        text=wanted[2],
        user=user,
        users=users_of(app, caller),
        states={info.id: withdrawn_or_failed(info) for info in shown},
        may_ingest=caller.has(*_MAY_INGEST),
        executors=_EXECUTORS if caller.has(Role.OPERATOR) else (),
        compute=app.workspace.settings.compute,
        jobs=await _jobs(app, caller),
        sources=await _sources(app, caller),
        reviews=await app.parts.knowledge.reviews(caller.ctx) if caller.has(*_MAY_REVIEW) else [],
    )


async def collections_of(app: App, caller: Caller) -> list[str]:
    """Names of the collections this caller knows of."""
    return _known_collections(app, await app.parts.knowledge.documents(caller.ctx), caller)


def users_of(app: App, caller: Caller) -> Sequence[DirectoryUser]:
    """Whom this caller may look as."""
    return sorted(app.parts.access.directory.values(), key=lambda u: u.name) if caller.may_act_as else []


def _known_collections(app: App, infos: Sequence[DocumentInfo], caller: Caller) -> list[str]:
    names = {info.collection for info in infos}
    if caller.has(*_MAY_INGEST):
        # A broken file is told by the overview and by doctor; the rest of the list stays usable.
        with suppress(InterlockError):
            names |= set(app.collections())
    return sorted(names)


def withdrawn_or_failed(info: DocumentInfo) -> str:
    """``failed``, ``held``, ``withdrawn`` (and its kin, as the metadata says it), or nothing."""
    if info.state in {"failed", "held"}:
        return info.state
    status = info.metadata.get("status", "").lower()
    return status if status in _NO_LONGER else ""


def _matches(info: DocumentInfo, collection: str, state: str, text: str) -> bool:
    words = text.casefold()
    return (
        (not collection or info.collection == collection)
        and (not state or info.state == state)
        and (not words or words in info.title.casefold() or words in info.source.casefold())
    )


async def _jobs(app: App, caller: Caller) -> list[Job]:
    """Newest ingest of each collection, for those who may start one."""
    if not caller.has(*_MAY_INGEST):
        return []
    newest: dict[str, Job] = {}
    for job in await app.parts.jobs.list(caller.ctx.tenant, kind=KIND, limit=50):
        newest.setdefault(str(job.payload.get("collection", "")), job)
    return list(newest.values())


async def _sources(app: App, caller: Caller) -> list[SourceStatus]:
    """Every source of this workspace with its freshness, for those who may start an ingest."""
    if not caller.has(*_MAY_INGEST) or caller.ctx.tenant != app.workspace.settings.tenant:
        return []
    found: list[SourceStatus] = []
    # As above: a broken file is told elsewhere.
    with suppress(InterlockError):
        for name in app.collections():
            found += await app.parts.knowledge.sources(caller.ctx, app.source_spec(name))
    return found


async def show(request: Request, caller: Caller) -> Response:
    """``GET /documents/{id}?start=&end=&digest=&as=``: the text, scrolled to a span."""
    app = app_of(request)
    user = request.query_params.get("as", "") if caller.may_act_as else ""
    ctx = reader_of(request, caller, user)
    document = DocumentId(request.path_params["id"])
    knowledge = app.parts.knowledge
    info = await knowledge.document(ctx, document)
    if user and not info.readers & ctx.readers:
        raise NotFound(f"no document {document!r}", param="document")
    # Any: what a template is given.
    data: dict[str, Any] = {"info": info, "user": user, "users": users_of(app, caller), "reading": None, "old": False}
    if info.readers & ctx.readers and info.text_digest:
        digest = request.query_params.get("digest")
        text = await knowledge.document_text(ctx, document, digest)
        span = _span(request, len(text.text))
        passages = [p for p in await knowledge.passages(ctx, document) if p.document_digest == text.digest]
        data |= {"reading": lay_out(text.text, passages, info.title, span), "old": text.digest != info.text_digest}
        _note_read(app, ctx, document)
    if is_fragment(request):
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return Response(
            fragment("_source.html", **data, here=here), media_type="text/html; charset=utf-8", headers=PAGE_HEADERS
        )
    return render(request, caller, "document.html", **data)


def _note_read(app: App, ctx: Context, document: DocumentId) -> None:
    app.parts.governance.append_soon(
        AuditEvent(
            ctx.tenant,
            ctx.principal.id,
            "document.read",
            document,
            "ok",
            end_user=ctx.end_user.id if ctx.end_user else "",
            trace_id=ctx.trace_id,
        )
    )


def _span(request: Request, length: int) -> Span | None:
    start, end = request.query_params.get("start", ""), request.query_params.get("end", "")
    if not start and not end:
        return None
    if not (start.isdecimal() and end.isdecimal() and len(start) < 12 and len(end) < 12):
        raise InvalidInput("start and end are character offsets", param="start")
    return Span(min(int(start), length), min(int(end), length))


def lay_out(text: str, passages: Sequence[Passage], title: str, span: Span | None) -> Reading:
    """Headings, tables, pages and the marked span of a text.

    Args:
        text: the extracted text; blank lines part its blocks.
        passages: of this version, in reading order: they know headings and pages; may be empty.
        title: the document's.
        span: what to mark.
    """
    first, last = _window(len(text), span)
    levels = {title: 1}
    pages: dict[int, int] = {}
    for passage in passages:
        for depth, heading in enumerate(passage.heading.split(HEADING_SEPARATOR), start=1):
            levels.setdefault(heading, depth)
        if passage.page is not None and passage.page not in pages:
            pages[passage.page] = passage.span.start
    starts = sorted((at, number) for number, at in pages.items())
    blocks: list[Block] = []
    marking = _Marking(text, span)
    for start, end in _paragraphs(text, first, last):
        while starts and starts[0][0] <= start:
            blocks.append(Block("page", (Markup.escape(starts.pop(0)[1]),)))
        content = text[start:end]
        level = levels.get(" ".join(content.split()))
        if level is not None and "\n" not in content:
            blocks.append(Block("heading", (marking.html(start, end),), min(level, 3)))
        elif all(_CELLS in line for line in content.split("\n")):
            blocks.append(Block("rows", tuple(marking.row(a, b) for a, b in _lines(text, start, end))))
        else:
            blocks.append(Block("text", (marking.html(start, end),)))
    return Reading(tuple(blocks), first > 0, last < len(text), marking.placed)


def _window(length: int, span: Span | None) -> tuple[int, int]:
    middle = span.start if span else 0
    first = max(0, middle - _WINDOW // 2)
    return (0, length) if length <= _WINDOW else (first, min(length, first + _WINDOW))


def _paragraphs(text: str, first: int, last: int) -> list[tuple[int, int]]:
    found = []
    at = first
    while at < last:
        end = text.find("\n\n", at, last)
        end = last if end < 0 else end
        if text[at:end].strip():
            found.append((at, end))
        at = end + 2
    return found


def _lines(text: str, start: int, end: int) -> list[tuple[int, int]]:
    found = []
    for line in text[start:end].split("\n"):
        found.append((start, start + len(line)))
        start += len(line) + 1
    return found


class _Marking:
    """Escapes pieces of the text and marks what lies in the span; the first mark gets the anchor."""

    def __init__(self, text: str, span: Span | None) -> None:
        self._text = text
        self._span = span
        self.placed = False

    def html(self, start: int, end: int) -> Markup:
        """One piece."""
        span = self._span
        if span is None or span.end <= start or span.start >= end or span.end <= span.start:
            return Markup.escape(self._text[start:end])
        first, last = max(start, span.start), min(end, span.end)
        anchor = Markup("") if self.placed else Markup(' id="cited" tabindex="-1"')
        self.placed = True
        return Markup("{}<mark{}>{}</mark>{}").format(
            self._text[start:first], anchor, self._text[first:last], self._text[last:end]
        )

    def row(self, start: int, end: int) -> Markup:
        """One table row as cells."""
        cells = []
        for cell in self._text[start:end].split(_CELLS):
            cells.append(Markup("<td>{}</td>").format(self.html(start, start + len(cell))))
            start += len(cell) + len(_CELLS)
        return Markup("").join(cells)


async def original(request: Request, caller: Caller) -> Response:
    """``GET /documents/{id}/original``: the file as it was ingested, always as a download."""
    app = app_of(request)
    ctx = reader_of(request, caller, request.query_params.get("as", "") if caller.may_act_as else "")
    document = DocumentId(request.path_params["id"])
    data = await app.parts.knowledge.original_bytes(ctx, document)
    info = await app.parts.knowledge.document(ctx, document)
    _note_read(app, ctx, document)
    name = info.source.rpartition("/")[2]
    return Response(
        data,
        media_type="application/octet-stream",
        headers={
            **PAGE_HEADERS,
            "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "content-security-policy": "default-src 'none'; sandbox",
        },
    )


# ── ingest ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def ingest(request: Request, caller: Caller) -> Response:
    """``POST /documents/ingest``: queue an ingest of a collection; an operator may say where it runs."""
    app = app_of(request)
    form = await form_of(request)
    spec = _spec_of(request, caller, text_field(form, "collection"))
    job = await enqueue_as_asked(app.parts, caller.ctx, spec, compute=_compute_of(form))
    return await _after_job(request, caller, job)


def _spec_of(request: Request, caller: Caller, collection: str) -> SourceSpec:
    caller.ctx.require(*_MAY_INGEST)
    app = app_of(request)
    if caller.ctx.tenant != app.workspace.settings.tenant:
        # The folders of this workspace are its own tenant's.
        raise NotFound("your tenant has no collections in this workspace", param="collection")
    return app.source_spec(collection)


def _compute_of(form: Form) -> ComputeChoice | None:
    """Where a run reads and embeds, when the form says otherwise than the settings."""
    executor, workers = text_field(form, "executor"), text_field(form, "workers")
    known = next((kind for kind in _EXECUTORS if kind == executor), None)
    if executor and known is None:
        raise InvalidInput(f"executor is one of {', '.join(_EXECUTORS)}", param="executor")
    if not workers:
        return ComputeChoice(known, None) if known else None
    is_number = workers.isascii() and workers.isdecimal() and len(workers) < 5
    if not is_number or not 1 <= int(workers) <= _MOST_WORKERS:
        raise InvalidInput(f"workers is a number from 1 to {_MOST_WORKERS:,}", param="workers")
    return ComputeChoice(known, int(workers))


async def ask_removals(request: Request, caller: Caller) -> Response:
    """``GET /documents/removals?collection=&source=``: what a source would lose, before it does."""
    query = request.query_params
    spec = _spec_of(request, caller, query.get("collection", ""))
    source = await _refused(request, caller, spec, query.get("source", ""))
    return render(request, caller, "removals.html", source=source)


async def remove(request: Request, caller: Caller) -> Response:
    """``POST /documents/removals``: a run of the source that may take all of its documents out."""
    form = await form_of(request)
    spec = _spec_of(request, caller, text_field(form, "collection"))
    source = await _refused(request, caller, spec, text_field(form, "source"))
    await sync_source(app_of(request).parts, caller.ctx, spec, source.name, why="asked", allow_removals=True)
    return RedirectResponse("/documents", 303)


async def _refused(request: Request, caller: Caller, spec: SourceSpec, name: str) -> SourceStatus:
    """A source that keeps documents until somebody confirms that they may go. Raises: NotFound."""
    for status in await app_of(request).parts.knowledge.sources(caller.ctx, spec):
        if status.name == name and status.error_code == TOO_MANY:
            return status
    raise NotFound(f"no source {name!r} waits for a confirmation", param="source")


async def decide(request: Request, caller: Caller) -> Response:
    """``POST /documents/{id}/review``: release a document into the index, or keep it out."""
    form = await form_of(request)
    verdict = text_field(form, "verdict")
    if verdict not in {"released", "kept"}:
        raise InvalidInput("verdict is released or kept", param="verdict")
    await review_document(
        app_of(request).parts,
        caller.ctx,
        DocumentId(request.path_params["id"]),
        cast("Verdict", verdict),
        text_digest=text_field(form, "digest"),
    )
    return RedirectResponse("/documents", 303)


async def cancel(request: Request, caller: Caller) -> Response:
    """``POST /documents/jobs/{id}/cancel``."""
    caller.ctx.require(*_MAY_INGEST)
    job = await app_of(request).parts.jobs.cancel(caller.ctx.tenant, JobId(request.path_params["id"]))
    return await _after_job(request, caller, job)


async def job_state(request: Request, caller: Caller) -> Response:
    """``GET /documents/jobs/{id}``: the job's piece of the page, asked for again while it runs."""
    caller.ctx.require(*_MAY_INGEST)
    job = await app_of(request).parts.jobs.get(caller.ctx.tenant, JobId(request.path_params["id"]))
    return await _after_job(request, caller, job)


async def _after_job(request: Request, caller: Caller, job: Job) -> Response:
    if not is_fragment(request):
        return RedirectResponse("/documents", 303)
    html = fragment("_job.html", job=job, csrf=caller.csrf)
    return Response(html, media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)


routes = [
    Route("/documents", page(list_documents)),
    Route("/documents/ingest", page(ingest), methods=["POST"]),
    Route("/documents/removals", page(ask_removals)),
    Route("/documents/removals", page(remove), methods=["POST"]),
    Route("/documents/jobs/{id}", page(job_state)),
    Route("/documents/jobs/{id}/cancel", page(cancel), methods=["POST"]),
    Route("/documents/{id}", page(show)),
    Route("/documents/{id}/review", page(decide), methods=["POST"]),
    Route("/documents/{id}/original", page(original)),
]
