"""The app's prompt for one request: its variables checked, its examples chosen, its size told to the trace."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import partial

from anyio import to_thread
from pydantic import JsonValue

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, Unavailable
from interlock.core.messages import ChatEvent, ChatRequest, Message, PromptUse, text_message
from interlock.core.passages import Passage
from interlock.core.release import Release
from interlock.core.trace import Span
from interlock.flows.metering import StreamModel
from interlock.flows.parts import Parts
from interlock.knowledge.grounding.prompts import WritePassages
from interlock.prompts.formatting import as_context
from interlock.prompts.service import Composed, compose, prompt_of
from interlock.prompts.types import PassageFormat

__all__ = ["composed", "composed_aside", "describe_prompt", "for_app", "refuse_variables", "under", "written_passages"]

_log = logging.getLogger("interlock.prompts")


async def composed(
    parts: Parts, ctx: Context, release: Release, request: ChatRequest, *, inline: bool = False
) -> Composed:
    """The prompt that this request goes under. Raises: as `compose`.

    Where the embedder that ranks examples is away, the first ones are taken: a request does not fail for it.
    """
    ranks = await _ranks(parts, release, request)
    return compose(ctx, release, request.variables, ranks=ranks, inline=inline)


async def composed_aside(parts: Parts, ctx: Context, release: Release, request: ChatRequest) -> Composed:
    """As `composed`, in a thread: what is being written may take its whole time, and others must not wait for it."""
    ranks = await _ranks(parts, release, request)
    return await to_thread.run_sync(partial(compose, ctx, release, request.variables, ranks=ranks))


async def _ranks(parts: Parts, release: Release, request: ChatRequest) -> Sequence[int] | None:
    examples = prompt_of(release).examples
    question = request.last_user_text.strip()
    if examples is None or examples.select != "similar" or not question:
        return None
    try:
        return await parts.prompts.nearness.ranks(examples, question)
    except Unavailable as error:
        _log.warning("examples are not ranked: %s", error.code)
        return None


def describe_prompt(span: Span, prompt: Composed) -> None:
    """Which prompt, and how long: on the root span, where lists and sums find it."""
    span.set(
        {
            "gen_ai.prompt.name": prompt.use.name,
            "gen_ai.prompt.version": prompt.use.version or None,
            "interlock.prompt.digest": prompt.use.version or None,
            "interlock.prompt.examples": len(prompt.shown) or None,
            **{f"interlock.prompt.tokens.{section}": count for section, count in prompt.tokens.items()},
        }
    )


async def for_app(
    parts: Parts, ctx: Context, request: ChatRequest, release: Release, span: Span | None = None
) -> ChatRequest:
    """The request as an app without documents sends it: under the app's own prompt, answered in the app's own form.

    Raises: as `compose`; InvalidInput: the caller wants another form than the app answers in.
    """
    prompt = await composed(parts, ctx, release, request)
    if span is not None:
        describe_prompt(span, prompt)
    turns = tuple(message for message in request.messages if message.role != "system")
    shots: list[Message] = []
    for each in prompt.turns:
        shots += [text_message("user", each.input), text_message("assistant", each.output)]
    system = text_message("system", prompt.system)
    return replace(_formed(request, release), messages=(system, *shots, *turns), prompt=prompt.use)


def _formed(request: ChatRequest, release: Release) -> ChatRequest:
    output = release.components.get("output")
    if output is None:
        return request
    schema = output["schema"]
    assert isinstance(schema, dict), "checked when the file was read"
    if request.response_schema is not None and request.response_schema != schema:
        raise InvalidInput(
            f"the app {release.app!r} answers in its own form",
            param="response_format",
            hint="leave response_format out, or send the app's own schema",
        )
    return replace(request, response_schema=schema, schema_name=str(output.get("name") or "answer"))


def refuse_variables(request: ChatRequest) -> None:
    """Raises: InvalidInput: variables without a prompt that they could go into."""
    if request.variables:
        raise InvalidInput(
            "only an app's prompt has variables",
            param="interlock.variables",
            hint="ask app/NAME, or leave interlock.variables out",
        )


def under(use: PromptUse, model: StreamModel) -> StreamModel:
    """`model`, with each request known to be under this prompt, so that a model's own text of it is found."""

    def stream(ctx: Context, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        return model(ctx, replace(request, prompt=use))

    return stream


def written_passages(release: Release) -> WritePassages | None:
    """How the app's prompt puts passages before a model; None as ever, ``[1] text``."""
    how = prompt_of(release).passages
    return None if how == "numbered" else partial(_written, how)


def _written(how: PassageFormat, passages: Sequence[Passage]) -> str:
    if how == "markdown":
        # Quoted line by line and left as it is: sentences are checked against the very words.
        return "\n\n".join(_quoted(number, each) for number, each in enumerate(passages, start=1))
    rows: list[JsonValue] = [
        {"number": number, **({"title": _title(each)} if _title(each) else {}), "text": each.text}
        for number, each in enumerate(passages, start=1)
    ]
    if how == "json":
        return as_context(rows, "json", "passages")
    shown = "\n".join(as_context(row, "xml", "passage") for row in rows)
    return f"<passages>\n{shown}\n</passages>"


def _quoted(number: int, passage: Passage) -> str:
    lines = "\n".join(f"> {line}".rstrip() for line in passage.text.splitlines())
    return f"### [{number}] {_title(passage)}".rstrip() + f"\n\n{lines}"


def _title(passage: Passage) -> str:
    return " › ".join(dict.fromkeys(part for part in (passage.title, *passage.heading.split(" › ")) if part))
