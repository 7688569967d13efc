"""Labelled questions, under `/api/v1/collections/{name}/questions` and `/api/v1/questions/{id}`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.core.clock import Deadline
from interlock.core.errors import InvalidInput
from interlock.evals.judged import JudgedQuestion
from interlock.flows.question_making import make_questions
from interlock.flows.questions import add_questions, decide_question, edit_question, made_view, question_view
from interlock.gateway.fields import field_error
from interlock.http.callers import app_of, context_of, read_json
from interlock.knowledge.questions.service import MOST_CHARACTERS
from interlock.knowledge.questions.types import State

__all__ = ["routes"]

_MOST_AT_ONCE = 100
_MAKING_S = 600.0
_STATES: dict[str, State] = {"proposed": "proposed", "accepted": "accepted", "rejected": "rejected"}


class _New(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str = Field(min_length=1, max_length=MOST_CHARACTERS)
    relevant: dict[str, int] = Field(min_length=1, max_length=50)
    quotes: dict[str, str] = Field(default_factory=dict, max_length=50)


class _Make(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(default=20, ge=1, le=_MOST_AT_ONCE)
    model: str = Field(default="", max_length=200)
    budget_usd: float = Field(default=1.0, gt=0, le=1_000, allow_inf_nan=False)


class _Change(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Literal["accepted", "rejected"] | None = None
    text: str | None = Field(default=None, min_length=1, max_length=MOST_CHARACTERS)


async def of_collection(request: Request) -> Response:
    """``GET /api/v1/collections/{name}/questions?state=``: oldest first; words only of those the caller may read."""
    ctx = await context_of(request)
    wanted = request.query_params.get("state")
    if wanted is not None and wanted not in _STATES:
        raise InvalidInput(f"state is one of: {', '.join(_STATES)}", param="state")
    state = None if wanted is None else _STATES[wanted]
    questions = app_of(request).parts.knowledge.questions
    found = await questions.of_collection(ctx, request.path_params["name"], state=state)
    return JSONResponse({"data": [question_view(one) for one in found]})


async def add(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/questions`` with ``{"query", "relevant", "quotes"?}``: one a person wrote."""
    ctx = await context_of(request)
    asked = _parsed(_New, await read_json(request))
    if any(grade < 1 for grade in asked.relevant.values()):
        raise InvalidInput("a grade is a whole number above 0", param="relevant")
    question = JudgedQuestion("new", asked.query, asked.relevant, None, asked.quotes)
    name = request.path_params["name"]
    added = await add_questions(app_of(request).parts, name, [question], lambda _: ctx)
    if added.unplaced:
        raise InvalidInput("it names a document, or a quote in one, that is not there", param="relevant")
    return JSONResponse({"added": added.added, "known": added.known}, 201)


async def make(request: Request) -> Response:
    """``POST /api/v1/collections/{name}/questions/make`` with ``{"count"?, "model"?, "budget_usd"?}``: proposals.

    Made while the caller waits, by the caller's rights and at the caller's cost. Each is stored when it is made: what a
    call that is broken off has made stays, and the next call makes others.
    """
    ctx = await context_of(request)
    asked = _parsed(_Make, await read_json(request))
    app = app_of(request)
    name = request.path_params["name"]
    # A call of the model has its own deadline, and so has each search: together they may be longer than one request.
    patient = replace(ctx, deadline=Deadline.after(_MAKING_S))
    made = await make_questions(
        app.parts, patient, name, count=asked.count, model=asked.model, budget_usd=asked.budget_usd,
        user=ctx.end_user.id if ctx.end_user else "",
    )  # fmt: skip
    return JSONResponse(made_view(made), 201)


async def show(request: Request) -> Response:
    """``GET /api/v1/questions/{id}``."""
    ctx = await context_of(request)
    return JSONResponse(question_view(await app_of(request).parts.knowledge.questions.get(ctx, _id(request))))


async def change(request: Request) -> Response:
    """``PATCH /api/v1/questions/{id}`` with ``{"state"}``, or ``{"text"}`` for other words, which accepts it."""
    ctx = await context_of(request)
    asked = _parsed(_Change, await read_json(request))
    if (asked.state is None) == (asked.text is None):
        raise InvalidInput("give either state or text", param="state")
    parts = app_of(request).parts
    if asked.text is not None:
        return JSONResponse(question_view(await edit_question(parts, ctx, _id(request), asked.text)))
    return JSONResponse(question_view(await decide_question(parts, ctx, _id(request), asked.state)))


def _id(request: Request) -> str:
    return str(request.path_params["id"])


# Any: the model that was asked for.
def _parsed(model: type[Any], body: object) -> Any:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise field_error(error) from error


routes = [
    Route("/api/v1/collections/{name}/questions", of_collection),
    Route("/api/v1/collections/{name}/questions", add, methods=["POST"]),
    Route("/api/v1/collections/{name}/questions/make", make, methods=["POST"]),
    Route("/api/v1/questions/{id}", show),
    Route("/api/v1/questions/{id}", change, methods=["PATCH"]),
]
