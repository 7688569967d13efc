"""Questions of a collection: read one, accept it, reject it, change its words; with the keyboard alone."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.console.documents import collections_of
from interlock.console.rendering import render
from interlock.console.session import Caller, form_of, page, text_field
from interlock.core.errors import InvalidInput, NotFound
from interlock.flows.questions import decide_question, edit_question
from interlock.http.callers import app_of
from interlock.knowledge.questions.types import State

__all__ = ["routes"]

_STATES: dict[str, State] = {"proposed": "proposed", "accepted": "accepted", "rejected": "rejected"}
_SHOWN = 50


async def show(request: Request, caller: Caller) -> Response:
    """``GET /collections/{name}/questions?state=``: the first fifty in a state."""
    name = request.path_params["name"]
    if name not in await collections_of(app_of(request), caller):
        raise NotFound(f"no collection {name!r}", param="collection")
    state = _STATES.get(request.query_params.get("state", ""), "proposed")
    every = await app_of(request).parts.knowledge.questions.of_collection(caller.ctx, name)
    counts = {known: sum(one.state == known for one in every) for known in _STATES}
    found = [one for one in every if one.state == state]
    return render(
        request,
        caller,
        "questions.html",
        collection=name,
        state=state,
        counts=counts,
        questions=found[:_SHOWN],
        total=len(found),
    )


async def decide(request: Request, caller: Caller) -> Response:
    """``POST /collections/{name}/questions/{id}`` with `verdict` (accepted, rejected), or `text` for other words."""
    form = await form_of(request)
    parts, question = app_of(request).parts, request.path_params["id"]
    verdict, text = text_field(form, "verdict"), text_field(form, "text")
    if verdict == "edited":
        await edit_question(parts, caller.ctx, question, " ".join(text.split()))
    elif verdict == "accepted":
        await decide_question(parts, caller.ctx, question, "accepted")
    elif verdict == "rejected":
        await decide_question(parts, caller.ctx, question, "rejected")
    else:
        raise InvalidInput("a question is accepted, rejected or edited", param="verdict")
    state = _STATES.get(text_field(form, "state"), "proposed")
    name = quote(request.path_params["name"], safe="")
    return RedirectResponse(f"/collections/{name}/questions?{urlencode({'state': state})}", 303)


routes = [
    Route("/collections/{name}/questions", page(show)),
    Route("/collections/{name}/questions/{id}", page(decide), methods=["POST"]),
]
