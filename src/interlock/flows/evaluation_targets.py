"""What a workspace can evaluate: apps, frozen releases, routes and models; each case with its asker's rights."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from interlock.core.answers import Answer
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.messages import ChatRequest, Finish, Message, TextDelta, ToolCallDelta, text_message
from interlock.core.release import Release
from interlock.evals.ports import Target
from interlock.evals.types import Call, Case, CitedSpan, Found, Output
from interlock.flows.chat import Receipt, ask, chat, has_knowledge
from interlock.flows.parts import Parts
from interlock.knowledge.release import RetrievalSpec

__all__ = ["WorkspaceTarget", "open_release_target", "open_workspace_target"]

_STOPS = {"misconfigured", "missing_extra", "model_missing", "model_not_found", "permission_denied", "not_found"}
"""Errors that no further case would be spared."""


async def open_workspace_target(parts: Parts, address: str) -> Target:
    """``app/NAME``, ``app/NAME@CHANNEL``, ``release:APP:ID``, or ``model:ROUTE``.

    Raises: NotFound, InvalidInput: no such app, channel, release or route; what it searches was never ingested.
    """
    owner = parts.access.local_owner()
    if address.startswith("model:"):
        model = address.removeprefix("model:")
        parts.gateway.route(model)
        return WorkspaceTarget(parts, address, None, model)
    if address.startswith("release:"):
        app, _, wanted = address.removeprefix("release:").partition(":")
        if not wanted:
            raise InvalidInput(f"{address!r} names no release", param="target", hint="release:APP:ID")
        release = await parts.releases.load(owner, app, wanted)
    else:
        release = await parts.releases.resolve(owner, address)
    return await open_release_target(parts, release, address)


async def open_release_target(parts: Parts, release: Release, name: str) -> Target:
    """A release, frozen or not. Raises: NotFound: what it searches does not exist, or was never ingested."""
    if has_knowledge(release):
        collection = RetrievalSpec.model_validate(release.components["retrieval"], extra="ignore").collection
        await parts.knowledge.check_ingested(parts.access.local_owner(), collection)
    return WorkspaceTarget(parts, name, release, f"app/{release.app}")


class WorkspaceTarget:
    """One release, or a route without one."""

    def __init__(self, parts: Parts, name: str, release: Release | None, model: str) -> None:
        self.name = name
        self.release = release
        self._parts = parts
        self._model = model

    @property
    def release_id(self) -> str:
        """See `Target`."""
        return "" if self.release is None else self.release.id

    @property
    def identity(self) -> Mapping[str, object]:
        """The release's digest. Empty for an app over documents: answers must not outlive these."""
        if self.release is None:
            return {"model": self._model}
        if has_knowledge(self.release):
            return {}
        return {"release": self.release.id}

    async def run(self, case: Case, repeat: int) -> Output:
        """See `Target`."""
        # A context of its own for each case: deadline, request and trace are those of one call.
        ctx = self._parts.access.local_owner()
        if case.user:
            ctx = self._parts.access.act_as(ctx, case.user)
        request = ChatRequest(self._model, _messages(case))
        began = time.perf_counter()
        try:
            return await self._read(ctx, request, began)
        except InterlockError as error:
            if error.code in _STOPS:
                raise
            wait = error.retry_after_s if error.retry_after_s is not None else 1.0
            return Output(error=error.code, retry_after_s=wait if error.retryable else None, trace_id=ctx.trace_id)

    async def _read(self, ctx: Context, request: ChatRequest, began: float) -> Output:
        answer: Answer | None = None
        receipt: Receipt | None = None
        text: list[str] = []
        names: dict[int, str] = {}
        arguments: dict[int, list[str]] = {}
        first: float | None = None
        stop = ""
        if self.release is not None and has_knowledge(self.release):
            events: Any = ask(self._parts, ctx, request, self.release)  # Any: one loop over either flow's events
        else:
            events = chat(self._parts, ctx, request, self.release)
        async with aclosing(events):
            async for event in events:
                if not isinstance(event, Receipt):
                    first = first or time.perf_counter() - began
                match event:
                    case TextDelta():
                        text.append(event.text)
                    case ToolCallDelta():
                        if event.name:
                            names[event.index] = event.name
                        arguments.setdefault(event.index, []).append(event.arguments)
                    case Finish():
                        stop = event.reason
                    case Answer():
                        answer = event
                    case Receipt():
                        receipt = event
        assert receipt is not None, "a stream ends with its receipt or raises"
        written = "".join(text) if answer is None else answer.text
        outcome = answer.outcome if answer is not None else "refused" if stop == "content_filter" else ""
        return Output(
            text=written,
            outcome=outcome,
            citations=() if answer is None else _citations(answer),
            found=() if answer is None else _found(answer),
            calls=tuple(_call(names[index], "".join(arguments.get(index, ()))) for index in sorted(names)),
            documents=() if answer is None else tuple(dict.fromkeys(each.document_id for each in answer.passages)),
            input_tokens=receipt.usage.input_tokens,
            output_tokens=receipt.usage.output_tokens,
            cost_nano=None if receipt.cost is None else receipt.cost.nano,
            latency_s=time.perf_counter() - began,
            first_token_s=first,
            model=receipt.model,
            trace_id=receipt.trace_id,
        )

    async def close(self) -> None:
        """The workspace is closed by whoever opened it."""


def _messages(case: Case) -> tuple[Message, ...]:
    if isinstance(case.input, str):
        return (text_message("user", case.input),)
    return tuple(text_message(turn.role, turn.content) for turn in case.input)


def _citations(answer: Answer) -> tuple[CitedSpan, ...]:
    """One for each sentence and source, so that precision is counted by what is claimed."""
    return tuple(
        CitedSpan(
            source=citation.source,
            quote=citation.quote,
            start=citation.span.start,
            end=citation.span.end,
            page=citation.page,
            claim=sentence.text,
            support=citation.support,
        )
        for sentence in answer.sentences
        for citation in sentence.citations
    )


def _found(answer: Answer) -> tuple[Found, ...]:
    return tuple(Found(each.source, each.text, each.span.start, each.span.end) for each in answer.passages)


def _call(name: str, arguments: str) -> Call:
    try:
        return Call(name, msgspec.json.decode(arguments or "{}", type=dict[str, Any]))
    except msgspec.DecodeError:
        return Call(name, {}, failed=True)
