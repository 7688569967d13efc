"""Review: answers that people judge, one after the other with the keyboard; and for overseers where people disagree."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import Caller, form_of, page, text_field
from interlock.core.context import Role
from interlock.core.errors import InvalidInput
from interlock.http.callers import app_of

__all__ = ["routes"]

_OVERSEE = (Role.DEVELOPER, Role.OPERATOR, Role.RISK)
_STATES = ("disputed", "open", "agreed", "decided")
_SHOWN = 50


async def list_queues(request: Request, caller: Caller) -> Response:
    """``GET /reviews``."""
    found = await app_of(request).parts.reviews.progress(caller.ctx)
    return render(
        request,
        caller,
        "reviews.html",
        queues=found,
        oversees=caller.has(*_OVERSEE),
        reviews=caller.has(Role.REVIEWER),
    )


async def desk(request: Request, caller: Caller) -> Response:
    """``GET /reviews/{queue}?item=&said=``: the next item, or one that the caller looks at again."""
    reviews, queue = app_of(request).parts.reviews, request.path_params["queue"]
    wanted = request.query_params.get("item")
    task = await (reviews.next(caller.ctx, queue) if wanted is None else reviews.again(caller.ctx, queue, wanted))
    return render(
        request,
        caller,
        "review.html",
        queue=queue,
        task=task,
        last=request.query_params.get("said"),
        oversees=caller.has(*_OVERSEE),
    )


async def say(request: Request, caller: Caller) -> Response:
    """``POST /reviews/{queue}`` with `item`, `label`, `note` and `seconds`."""
    form = await form_of(request)
    queue, item = request.path_params["queue"], text_field(form, "item")
    told = text_field(form, "seconds")
    try:
        seconds = min(max(float(told), 0.0), 86_400.0) if told else None
    except ValueError as error:
        raise InvalidInput("seconds is a number", param="seconds") from error
    await app_of(request).parts.reviews.say(
        caller.ctx, queue, item, text_field(form, "label"), note=text_field(form, "note"), seconds=seconds
    )
    return RedirectResponse(f"/reviews/{quote(queue, safe='')}?{urlencode({'said': item})}", 303)


async def oversee(request: Request, caller: Caller) -> Response:
    """``GET /reviews/{queue}/items?state=``: what was said, and how far people agree."""
    reviews, queue = app_of(request).parts.reviews, request.path_params["queue"]
    every = await reviews.items(caller.ctx, queue)
    counts = {name: sum(each.state == name for each in every) for name in _STATES}
    state = request.query_params.get("state") or next((name for name in _STATES if counts[name]), "open")
    found = [each for each in every if each.state == state]
    spec = next(each for each in await reviews.queues(caller.ctx) if each.queue == queue)
    return render(
        request,
        caller,
        "review-items.html",
        spec=spec,
        state=state,
        counts=counts,
        items=found[:_SHOWN],
        total=len(found),
        agreement=await reviews.agreement(caller.ctx, queue),
    )


async def decide(request: Request, caller: Caller) -> Response:
    """``POST /reviews/{queue}/items`` with `item`, `label` and `note`: an adjudicator's word."""
    form = await form_of(request)
    queue = request.path_params["queue"]
    await app_of(request).parts.reviews.decide(
        caller.ctx, queue, text_field(form, "item"), text_field(form, "label"), note=text_field(form, "note")
    )
    asked = urlencode({"state": text_field(form, "state") or "disputed"})
    return RedirectResponse(f"/reviews/{quote(queue, safe='')}/items?{asked}", 303)


async def export(request: Request, caller: Caller) -> Response:
    """``GET /reviews/{queue}/labels.jsonl``: settled items, as `interlock judge calibrate` reads them."""
    queue = request.path_params["queue"]
    found = await app_of(request).parts.reviews.labels(caller.ctx, queue)
    body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in found)
    name = {"content-disposition": f'attachment; filename="{quote(queue, safe="")}.jsonl"'}
    return Response(body, media_type="application/x-ndjson", headers=name)


routes = [
    Route("/reviews", page(list_queues)),
    Route("/reviews/{queue}", page(desk)),
    Route("/reviews/{queue}", page(say), methods=["POST"]),
    Route("/reviews/{queue}/items", page(oversee)),
    Route("/reviews/{queue}/items", page(decide), methods=["POST"]),
    Route("/reviews/{queue}/labels.jsonl", page(export)),
]
