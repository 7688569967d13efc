"""What people say of answers, under `/api/v1/feedback`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.http.callers import app_of, context_of, read_json
from interlock.observe.service import Rating
from interlock.server.releases import parsed

__all__ = ["routes"]


class _Opinion(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    trace: str = Field(min_length=32, max_length=32, pattern="^[0-9a-f]+$")
    rating: Rating
    # Kinds alone: what people write would be content, and no policy of content covers it.
    issue: Literal["wrong", "incomplete", "unsupported", "harmful", "slow", "other"] | None = None


async def say(request: Request) -> Response:
    """``POST /api/v1/feedback`` with ``{"trace", "rating", "issue"?}``; for whoever asked."""
    ctx = await context_of(request)
    asked = parsed(_Opinion, await read_json(request))
    await app_of(request).parts.observe.say(ctx, asked.trace, asked.rating, asked.issue or "")
    return Response(status_code=204)


routes = [Route("/api/v1/feedback", say, methods=["POST"])]
