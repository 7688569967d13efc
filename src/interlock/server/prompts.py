"""Prompts, under `/api/v1/prompts`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.flows.parts import Parts
from interlock.flows.prompt_desk import (
    Asked,
    compare_prompts,
    dependants,
    history,
    label_prompt,
    pick_prompt,
    preview,
    spec_of,
)
from interlock.flows.prompt_lint import lint_prompt
from interlock.flows.prompt_quality import prompt_quality, quality_view
from interlock.flows.prompt_views import (
    current_view,
    dependant_view,
    known_view,
    label_view,
    linted_view,
    preview_view,
    section_view,
    version_view,
)
from interlock.http.callers import app_of, context_of, read_json
from interlock.server.releases import parsed

__all__ = ["routes"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    rationale: str = Field(min_length=1, max_length=4000)


class _Draft(_Record):
    files: dict[str, str] = Field(min_length=1, max_length=64)
    base: dict[str, str] = Field(default_factory=dict, max_length=64)


class _Label(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(min_length=1, max_length=80)
    rationale: str = Field(default="", max_length=1000)


class _Lint(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(default="files", max_length=80)
    files: dict[str, str] = Field(default_factory=dict, max_length=64)


class _Render(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(default="files", max_length=80)
    files: dict[str, str] = Field(default_factory=dict, max_length=64)
    # Any: JSON values; the prompt says what they have to be.
    variables: dict[str, Any] = Field(default_factory=dict, max_length=64)
    user: str = Field(default="", max_length=256)
    groups: list[str] = Field(default_factory=list, max_length=256)
    question: str = Field(default="", max_length=50_000)
    model: str = Field(default="", max_length=256)


async def _asked(request: Request) -> tuple[Context, Parts, str]:
    ctx = await context_of(request)
    return ctx, app_of(request).parts, request.path_params.get("name", "")


async def list_prompts(request: Request) -> Response:
    """``GET /api/v1/prompts``: every prompt, broken ones with their error."""
    ctx, parts, _ = await _asked(request)
    return JSONResponse({"data": [known_view(each) for each in await parts.prompts.list(ctx)]})


async def show(request: Request) -> Response:
    """``GET /api/v1/prompts/{name}``: what the files say now, its labels, its versions, who depends on it."""
    ctx, parts, name = await _asked(request)
    current = await parts.prompts.current(ctx, name)
    labels = await parts.prompts.labels(ctx, name)
    return JSONResponse(
        {
            "name": name,
            **current_view(current),
            "labels": [label_view(each) for each in labels],
            "versions": [version_view(each, labels) for each in await history(parts, ctx, name)],
            "dependants": [dependant_view(each) for each in await dependants(parts, ctx, name)],
        }
    )


async def versions(request: Request) -> Response:
    """``GET /api/v1/prompts/{name}/versions``: newest first."""
    ctx, parts, name = await _asked(request)
    labels = await parts.prompts.labels(ctx, name)
    return JSONResponse({"data": [version_view(each, labels) for each in await history(parts, ctx, name)]})


async def version(request: Request) -> Response:
    """``GET /api/v1/prompts/{name}/versions/{version}``: a digest, a label, a channel, or ``files``."""
    ctx, parts, name = await _asked(request)
    found = await pick_prompt(parts, ctx, name, request.path_params["version"])
    return JSONResponse(version_view(found, await parts.prompts.labels(ctx, name), whole=True))


async def record(request: Request) -> Response:
    """``POST /api/v1/prompts/{name}/versions`` with ``{"rationale"}``: keeps what the files say."""
    ctx, parts, name = await _asked(request)
    asked = parsed(_Record, await read_json(request))
    return JSONResponse(version_view(await parts.prompts.record(ctx, name, asked.rationale)), 201)


async def draft(request: Request) -> Response:
    """``POST /api/v1/prompts/{name}/drafts`` with ``{"files", "base", "rationale"}``; 409 when a file was changed."""
    ctx, parts, name = await _asked(request)
    asked = parsed(_Draft, await read_json(request))
    kept = await parts.prompts.draft(ctx, name, asked.files, asked.base, asked.rationale)
    return JSONResponse(version_view(kept), 201)


async def patch(request: Request) -> Response:
    """``GET /api/v1/prompts/{name}/versions/{version}/patch``: a unified diff for ``git apply``."""
    ctx, parts, name = await _asked(request)
    text = await parts.prompts.patch(ctx, name, request.path_params["version"])
    return PlainTextResponse(text, media_type="text/x-diff")


async def diff(request: Request) -> Response:
    """``GET /api/v1/prompts/{name}/versions/{version}/diff?against=``: from `against` to this one."""
    ctx, parts, name = await _asked(request)
    old = await pick_prompt(parts, ctx, name, request.query_params.get("against", "files"))
    new = await pick_prompt(parts, ctx, name, request.path_params["version"])
    sections = [section_view(each) for each in compare_prompts(old, new)]
    return JSONResponse({"before": old.digest, "after": new.digest, "sections": sections})


async def quality(request: Request) -> Response:
    """``GET /api/v1/prompts/{name}/quality?days=``: what each version has shown, in evaluations and under requests."""
    ctx, parts, name = await _asked(request)
    raw = request.query_params.get("days", "30")
    if not raw.isascii() or not raw.isdigit() or not 1 <= int(raw[:5]) <= 3650:
        raise InvalidInput("days is a number from 1 to 3650", param="days")
    return JSONResponse(quality_view(await prompt_quality(parts, ctx, name, days=float(raw))))


async def lint(request: Request) -> Response:
    """``POST /api/v1/prompts/{name}/lint`` with ``{"version"?, "files"?}``: what rules find."""
    ctx, parts, name = await _asked(request)
    asked = parsed(_Lint, await read_json(request))
    return JSONResponse(
        linted_view(await lint_prompt(parts, ctx, name, wanted=asked.version, drafted=asked.files or None))
    )


async def render(request: Request) -> Response:
    """``POST /api/v1/prompts/{name}/render``: a version, or the files with some of them as drafted."""
    ctx, parts, name = await _asked(request)
    asked = parsed(_Render, await read_json(request))
    if asked.files:
        spec = (await parts.prompts.current(ctx, name, asked.files)).spec
    else:
        spec = spec_of(await pick_prompt(parts, ctx, name, asked.version))
    what = Asked(asked.variables, asked.user, tuple(asked.groups), asked.question, asked.model)
    return JSONResponse(preview_view(await preview(parts, ctx, name, spec, what)))


async def label(request: Request) -> Response:
    """``PUT /api/v1/prompts/{name}/labels/{label}`` with ``{"version", "rationale"?}``."""
    ctx, parts, name = await _asked(request)
    asked = parsed(_Label, await read_json(request))
    moved = await label_prompt(parts, ctx, name, request.path_params["label"], asked.version, rationale=asked.rationale)
    return JSONResponse(label_view(moved))


async def unlabel(request: Request) -> Response:
    """``DELETE /api/v1/prompts/{name}/labels/{label}``."""
    ctx, parts, name = await _asked(request)
    await parts.prompts.unlabel(ctx, name, request.path_params["label"])
    return Response(status_code=204)


async def holding(request: Request) -> Response:
    """``GET /api/v1/prompts/{name}/dependants``."""
    ctx, parts, name = await _asked(request)
    return JSONResponse({"data": [dependant_view(each) for each in await dependants(parts, ctx, name)]})


_AT = "/api/v1/prompts"
routes = [
    Route(_AT, list_prompts),
    Route(_AT + "/{name}", show),
    Route(_AT + "/{name}/versions", versions),
    Route(_AT + "/{name}/versions", record, methods=["POST"]),
    Route(_AT + "/{name}/versions/{version}", version),
    Route(_AT + "/{name}/versions/{version}/patch", patch),
    Route(_AT + "/{name}/versions/{version}/diff", diff),
    Route(_AT + "/{name}/drafts", draft, methods=["POST"]),
    Route(_AT + "/{name}/quality", quality),
    Route(_AT + "/{name}/lint", lint, methods=["POST"]),
    Route(_AT + "/{name}/render", render, methods=["POST"]),
    Route(_AT + "/{name}/labels/{label}", label, methods=["PUT"]),
    Route(_AT + "/{name}/labels/{label}", unlabel, methods=["DELETE"]),
    Route(_AT + "/{name}/dependants", holding),
]
