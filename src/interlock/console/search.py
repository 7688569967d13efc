"""The search box: an id goes straight to its page, words to what they name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import ANY_ROLE, Caller, page
from interlock.core.errors import NotFound
from interlock.core.ids import DocumentId
from interlock.http.callers import app_of

__all__ = ["routes"]

_TRACE = re.compile(r"[0-9a-f]{8,32}")
_RELEASE = re.compile(r"(?:rel_|sha256:)([0-9a-f]{8,64})")
_MOST = 50


class Found(NamedTuple):
    """One thing that fits."""

    kind: str
    label: str
    detail: str
    link: str


async def search(request: Request, caller: Caller) -> Response:
    """``GET /search?q=``. One thing that fits is opened at once."""
    wanted = request.query_params.get("q", "").strip()[:200]
    found = [*await _by_id(request, caller, wanted), *await _by_words(request, caller, wanted)] if wanted else []
    if len(found) == 1:
        return RedirectResponse(found[0].link, 303)
    return render(request, caller, "search.html", found=found[:_MOST], searched=wanted)


async def _by_id(request: Request, caller: Caller, wanted: str) -> Sequence[Found]:
    parts = app_of(request).parts
    found: list[Found] = []
    trace = wanted.lower()
    if _TRACE.fullmatch(trace) and caller.has(*ANY_ROLE):
        try:
            spans = await parts.observe.trace(caller.ctx, trace)
        except NotFound:
            pass
        else:
            found.append(Found("trace", spans[0].trace_id, spans[0].name, f"/traces/{spans[0].trace_id}"))
    if wanted.startswith("doc_"):
        try:
            info = await parts.knowledge.document(caller.ctx, DocumentId(wanted))
        except NotFound:
            pass
        else:
            found.append(Found("document", info.title, info.source, f"/documents/{info.id}"))
    release = _RELEASE.fullmatch(wanted)
    if release and caller.has(*ANY_ROLE):
        for source in parts.releases.apps(caller.ctx):
            for frozen in await parts.releases.list(caller.ctx, source.name):
                if frozen.id.removeprefix("sha256:").startswith(release.group(1)):
                    found.append(Found("release", frozen.id, source.name, f"/apps/{source.name}#releases"))
    return found


async def _by_words(request: Request, caller: Caller, wanted: str) -> Sequence[Found]:
    parts = app_of(request).parts
    words = wanted.casefold()
    found: list[Found] = []
    if caller.has(*ANY_ROLE):
        found += [
            Found("app", source.name, source.description, f"/apps/{source.name}")
            for source in parts.releases.apps(caller.ctx)
            if words.removeprefix("app/") in source.name.casefold()
        ]
    found += [
        Found("document", info.title, info.source, f"/documents/{info.id}")
        for info in await parts.knowledge.documents(caller.ctx)
        if words in info.title.casefold() or words in info.source.casefold()
    ]
    return found


routes = [Route("/search", page(search))]
