"""Prompts: what they say, who uses them, their versions; drafts with their preview beside them, out as patches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from interlock.console.rendering import render
from interlock.console.session import Caller, Form, form_of, page, text_field
from interlock.core.context import Role
from interlock.core.errors import Conflict, InterlockError, InvalidInput
from interlock.flows.prompt_desk import (
    Asked,
    Preview,
    compare_prompts,
    dependants,
    history,
    label_prompt,
    pick_prompt,
    preview,
    spec_of,
)
from interlock.flows.prompt_lint import Linted, lint_prompt
from interlock.flows.prompt_quality import prompt_quality
from interlock.http.callers import app_of
from interlock.prompts.files import Loaded, text_digest
from interlock.prompts.sections import SectionDiff, compared, sections_of
from interlock.prompts.tokens import estimate_tokens

__all__ = ["routes"]

_MAY_WRITE = (Role.DEVELOPER, Role.OPERATOR)


class Desk(NamedTuple):
    """The editor with all that it shows."""

    path: str
    text: str
    base: str
    """Digest of the file that the text was begun over."""
    variables: str
    """JSON, as it was typed."""
    question: str
    model: str
    rationale: str = ""


async def list_prompts(request: Request, caller: Caller) -> Response:
    """``GET /prompts``."""
    found = await app_of(request).parts.prompts.list(caller.ctx)
    return render(request, caller, "prompts.html", found=found)


async def show(request: Request, caller: Caller) -> Response:
    """``GET /prompts/{name}``."""
    parts = app_of(request).parts
    name = request.path_params["name"]
    place = await parts.prompts.place(caller.ctx, name)
    error: InterlockError | None = None
    loaded: Loaded | None = None
    try:
        loaded = await parts.prompts.current(caller.ctx, name)
    except InterlockError as fault:
        # The page of a broken prompt says what to mend.
        error = fault
    sections = {} if loaded is None else sections_of(loaded.spec)
    return render(
        request,
        caller,
        "prompt.html",
        place=place,
        loaded=loaded,
        error=error,
        sections=sections,
        tokens={part: estimate_tokens(text) for part, text in sections.items()},
        labels=await parts.prompts.labels(caller.ctx, name),
        versions=await history(parts, caller.ctx, name),
        dependants=await dependants(parts, caller.ctx, name),
        quality=await prompt_quality(parts, caller.ctx, name),
        may_write=caller.has(*_MAY_WRITE),
    )


async def version(request: Request, caller: Caller) -> Response:
    """``GET /prompts/{name}/versions/{version}?against=``: one version, and what it changes."""
    parts = app_of(request).parts
    name = request.path_params["name"]
    found = await pick_prompt(parts, caller.ctx, name, request.path_params["version"])
    against = request.query_params.get("against", "files")
    try:
        sections: Sequence[SectionDiff] | None = compare_prompts(
            await pick_prompt(parts, caller.ctx, name, against), found
        )
    except InterlockError:
        # The files may be broken, or a label gone: the version is shown all the same.
        sections = None
    return render(
        request,
        caller,
        "prompt-version.html",
        place=await parts.prompts.place(caller.ctx, name),
        shown=found,
        against=against,
        changes=sections,
        sections=sections_of(spec_of(found)),
        labels=[each for each in await parts.prompts.labels(caller.ctx, name) if each.digest == found.digest],
        may_write=caller.has(*_MAY_WRITE),
    )


async def patch(request: Request, caller: Caller) -> Response:
    """``GET /prompts/{name}/versions/{version}/patch``: the file for ``git apply``."""
    name, wanted = request.path_params["name"], request.path_params["version"]
    text = await app_of(request).parts.prompts.patch(caller.ctx, name, wanted)
    if not text:
        raise InvalidInput("the files say it already: there is nothing to apply", param="version")
    file = f"{name}-{wanted.removeprefix('sha256:')[:8]}.patch"
    headers = {"content-disposition": f'attachment; filename="{file}"'}
    return PlainTextResponse(text, media_type="text/x-diff", headers=headers)


async def label(request: Request, caller: Caller) -> Response:
    """``POST /prompts/{name}/labels`` with `label`, `version`, `why`; without a version the label is taken away."""
    form = await form_of(request)
    parts, name = app_of(request).parts, request.path_params["name"]
    wanted, chosen = text_field(form, "label"), text_field(form, "version")
    if chosen:
        await label_prompt(parts, caller.ctx, name, wanted, chosen, rationale=text_field(form, "why")[:1000])
    else:
        await parts.prompts.unlabel(caller.ctx, name, wanted)
    return RedirectResponse(f"/prompts/{name}#labels", 303)


async def edit(request: Request, caller: Caller) -> Response:
    """``GET /prompts/{name}/edit?file=``."""
    caller.ctx.require(*_MAY_WRITE)
    files = await _files(request, caller)
    path = request.query_params.get("file") or next(iter(files))
    text = files.get(path, "")
    desk = Desk(path, text, text_digest(text), request.query_params.get("variables", "{}"), "", "")
    return await _desk(request, caller, desk, files)


async def look(request: Request, caller: Caller) -> Response:
    """``POST /prompts/{name}/edit``: shows the draft, or with `save` keeps it."""
    caller.ctx.require(*_MAY_WRITE)
    form = await form_of(request)
    desk = Desk(
        text_field(form, "path"),
        _text(form),
        text_field(form, "base"),
        text_field(form, "variables") or "{}",
        text_field(form, "question"),
        text_field(form, "model"),
        text_field(form, "why"),
    )
    files = await _files(request, caller)
    if not text_field(form, "save"):
        return await _desk(request, caller, desk, files)
    prompts, name = app_of(request).parts.prompts, request.path_params["name"]
    try:
        kept = await prompts.draft(caller.ctx, name, {desk.path: desk.text}, {desk.path: desk.base}, desk.rationale)
    except Conflict as conflict:
        # What was written stays in the editor, over the file as it is now, beside what changed beneath it.
        now_there = files.get(desk.path, "")
        desk = desk._replace(base=text_digest(now_there))
        return await _desk(request, caller, desk, files, error=conflict, status=conflict.status)
    except InterlockError as fault:
        return await _desk(request, caller, desk, files, error=fault, status=fault.status)
    return RedirectResponse(f"/prompts/{name}/versions/{kept.digest}", 303)


def _text(form: Form) -> str:
    """The text as it was written: forms send line ends of their own."""
    return form.get("text", [""])[-1].replace("\r\n", "\n")


async def _files(request: Request, caller: Caller) -> Mapping[str, str]:
    """Files of the prompt; of a broken one the prompt alone."""
    prompts, name = app_of(request).parts.prompts, request.path_params["name"]
    try:
        loaded = await prompts.current(caller.ctx, name)
    except InterlockError:
        place = await prompts.place(caller.ctx, name)
        shelf = prompts.shelf()
        return {shelf.name(place.path): shelf.text(place.path)}
    return {loaded.main: loaded.files[loaded.main], **loaded.files}


async def _desk(
    request: Request,
    caller: Caller,
    desk: Desk,
    files: Mapping[str, str],
    *,
    error: InterlockError | None = None,
    status: int = 200,
) -> Response:
    parts, name = app_of(request).parts, request.path_params["name"]
    made: Preview | None = None
    fault: InterlockError | None = None
    try:
        loaded = await parts.prompts.current(caller.ctx, name, {desk.path: desk.text})
        asked = Asked(_values(desk.variables), question=desk.question, model=desk.model)
        made = await preview(parts, caller.ctx, name, loaded.spec, asked)
    except InterlockError as found:
        # The text is being written: what is wrong with it stands where the preview would.
        fault = found
    looked: Linted | None = None
    with suppress(InterlockError):
        # Of a text that cannot be read the fault is told already.
        looked = await lint_prompt(parts, caller.ctx, name, drafted={desk.path: desk.text})
    changes = compared({desk.path: files.get(desk.path, "")}, {desk.path: desk.text})
    return render(
        request,
        caller,
        "prompt-edit.html",
        status=status,
        place=await parts.prompts.place(caller.ctx, name),
        desk=desk,
        files=files,
        made=made,
        fault=fault,
        looked=looked,
        error=error,
        changes=changes,
    )


# Any: JSON values; the prompt says what they have to be.
def _values(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidInput("the variables are no JSON", param="variables") from error
    if not isinstance(found, dict):
        raise InvalidInput("the variables are a JSON object: name to value", param="variables")
    return found


routes = [
    Route("/prompts", page(list_prompts)),
    Route("/prompts/{name}", page(show)),
    Route("/prompts/{name}/edit", page(edit), methods=["GET"]),
    Route("/prompts/{name}/edit", page(look), methods=["POST"]),
    Route("/prompts/{name}/labels", page(label), methods=["POST"]),
    Route("/prompts/{name}/versions/{version}", page(version)),
    Route("/prompts/{name}/versions/{version}/patch", page(patch)),
]
