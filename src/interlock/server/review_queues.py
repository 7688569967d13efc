"""Queues of answers that people judge, under `/api/v1/review-queues`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.evals.review.types import Item, ItemState, Progress, QueueSpec, Reviewed, Task
from interlock.http.callers import app_of, context_of, read_json
from interlock.server.releases import parsed

__all__ = ["routes"]

_MOST_ITEMS = 1_000
# Any in this module: JSON values.


class _Items(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    items: list[Item] = Field(min_length=1, max_length=_MOST_ITEMS)


class _Decision(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    item: str = Field(min_length=1, max_length=200)
    label: str = Field(min_length=1, max_length=64)
    note: str = Field(default="", max_length=10_000)


class _Label(_Decision):
    seconds: float | None = Field(default=None, ge=0, le=86_400, allow_inf_nan=False)


class _Filter(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    state: ItemState | None = None


async def list_queues(request: Request) -> Response:
    """``GET /api/v1/review-queues``: with how far they are, and what waits for the caller."""
    ctx = await context_of(request)
    return JSONResponse({"data": [_progress(each) for each in await app_of(request).parts.reviews.progress(ctx)]})


async def create(request: Request) -> Response:
    """``POST /api/v1/review-queues``: opens a queue."""
    ctx = await context_of(request)
    spec = parsed(QueueSpec, await read_json(request))
    await app_of(request).parts.reviews.create(ctx, spec)
    return JSONResponse(spec.model_dump(mode="json"), 201)


async def add(request: Request) -> Response:
    """``POST /api/v1/review-queues/{queue}/items`` with ``{"items": […]}``, a thousand at most."""
    ctx = await context_of(request)
    asked = parsed(_Items, await read_json(request))
    new = await app_of(request).parts.reviews.add(ctx, request.path_params["queue"], asked.items)
    return JSONResponse({"added": new})


async def items(request: Request) -> Response:
    """``GET /api/v1/review-queues/{queue}/items?state=``: with all that was said, for who oversees the queue."""
    ctx = await context_of(request)
    asked = parsed(_Filter, dict(request.query_params))
    found = await app_of(request).parts.reviews.items(ctx, request.path_params["queue"], state=asked.state)
    return JSONResponse({"data": [_reviewed(each) for each in found]})


async def next_item(request: Request) -> Response:
    """``POST /api/v1/review-queues/{queue}/next``: the next item, held for half an hour; 204 when none waits."""
    ctx = await context_of(request)
    task = await app_of(request).parts.reviews.next(ctx, request.path_params["queue"])
    return Response(status_code=204) if task is None else JSONResponse(_task(task))


async def say(request: Request) -> Response:
    """``POST /api/v1/review-queues/{queue}/labels`` with ``{"item", "label", "note"?, "seconds"?}``."""
    ctx = await context_of(request)
    said = parsed(_Label, await read_json(request))
    reviews = app_of(request).parts.reviews
    await reviews.say(ctx, request.path_params["queue"], said.item, said.label, note=said.note, seconds=said.seconds)
    return JSONResponse({"item": said.item, "label": said.label})


async def decide(request: Request) -> Response:
    """``POST /api/v1/review-queues/{queue}/decisions`` with ``{"item", "label", "note"?}``."""
    ctx = await context_of(request)
    said = parsed(_Decision, await read_json(request))
    await app_of(request).parts.reviews.decide(ctx, request.path_params["queue"], said.item, said.label, note=said.note)
    return JSONResponse({"item": said.item, "final": said.label})


async def agreement(request: Request) -> Response:
    """``GET /api/v1/review-queues/{queue}/agreement``."""
    ctx = await context_of(request)
    return JSONResponse(asdict(await app_of(request).parts.reviews.agreement(ctx, request.path_params["queue"])))


async def labels(request: Request) -> Response:
    """``GET /api/v1/review-queues/{queue}/labels``: settled items, as `interlock judge calibrate` reads them."""
    ctx = await context_of(request)
    return JSONResponse({"data": await app_of(request).parts.reviews.labels(ctx, request.path_params["queue"])})


def _progress(each: Progress) -> dict[str, Any]:
    told = {"queue": each.spec.queue, "states": dict(each.states), "done": each.done, "left": each.left}
    return {**told, "spec": each.spec.model_dump(mode="json")}


def _task(task: Task) -> dict[str, Any]:
    hidden = {"gold", "asker", "documents", "assigned", "case", "collection"}
    item = task.item.model_dump(mode="json", exclude=hidden)
    return {"item": item, "spec": task.spec.model_dump(mode="json"), "done": task.done, "left": task.left}


def _reviewed(each: Reviewed) -> dict[str, Any]:
    return {
        "item": each.item.model_dump(mode="json"),
        "state": each.state,
        "final": each.final,
        "labels": [{**asdict(label), "at": label.at.isoformat()} for label in each.labels],
        "decided_by": each.decided_by or None,
        "note": each.note,
    }


_PLACE = "/api/v1/review-queues"
routes = [
    Route(_PLACE, list_queues),
    Route(_PLACE, create, methods=["POST"]),
    Route(f"{_PLACE}/{{queue}}/items", items),
    Route(f"{_PLACE}/{{queue}}/items", add, methods=["POST"]),
    Route(f"{_PLACE}/{{queue}}/next", next_item, methods=["POST"]),
    Route(f"{_PLACE}/{{queue}}/labels", labels),
    Route(f"{_PLACE}/{{queue}}/labels", say, methods=["POST"]),
    Route(f"{_PLACE}/{{queue}}/decisions", decide, methods=["POST"]),
    Route(f"{_PLACE}/{{queue}}/agreement", agreement),
]
