"""What a workspace can evaluate: apps, frozen releases, routes and models; each case with its asker's rights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from itertools import islice
from typing import Any

import msgspec

from interlock.core.answers import Answer
from interlock.core.canonical import digest_json
from interlock.core.context import Context
from interlock.core.errors import Blocked, InterlockError, InvalidInput
from interlock.core.messages import ChatRequest, Finish, Message, TextDelta, ToolCallDelta, ToolSpec, text_message
from interlock.core.release import Release
from interlock.evals.offered import offered_tools
from interlock.evals.types import Call, Case, CitedSpan, Found, Output
from interlock.flows.chat import Receipt, ask, chat, has_knowledge
from interlock.flows.evaluation_planting import PlantedCollection, has_planted, planted
from interlock.flows.parts import Parts
from interlock.knowledge.release import RetrievalSpec
from interlock.prompts.service import prompt_of, render
from interlock.prompts.variables import FIELD, check_values

__all__ = ["WorkspaceTarget", "open_release_target", "open_workspace_target", "release_of"]

_STOPS = {"misconfigured", "missing_extra", "model_missing", "model_not_found", "permission_denied", "not_found"}
"""Errors that no further case would be spared."""
_MOST_PROTECTED = 64
"""Texts of one prompt with unlike variables: what leaks one of them leaks what all have in common."""


async def open_workspace_target(parts: Parts, address: str, cases: Sequence[Case] = ()) -> WorkspaceTarget:
    """``app/NAME``, ``app/NAME@CHANNEL``, ``release:APP:ID``, or ``model:ROUTE``.

    Args:
        cases: that will be asked; documents that they bring are planted for an app that answers from documents, which
            then searches these alone.

    Raises: NotFound, InvalidInput: no such app, channel, release or route; what it searches was never ingested; a case
        whose variables are not those of the app's prompt.
    """
    release = await release_of(parts, address)
    if release is not None:
        return await open_release_target(parts, release, address, cases=cases)
    model = address.removeprefix("model:")
    parts.gateway.route(model)
    if (given := next((case for case in cases if case.variables), None)) is not None:
        raise InvalidInput(
            f"the case {given.id!r} has variables, and a model alone has no prompt that they could go into",
            param=f"cases.{given.id}.variables",
            hint="--target app/NAME",
        )
    return WorkspaceTarget(parts, address, None, model)


async def release_of(parts: Parts, address: str) -> Release | None:
    """The release that a target names; None where it names a route. Raises: NotFound, InvalidInput."""
    owner = parts.access.local_owner()
    if address.startswith("model:"):
        return None
    if not address.startswith("release:"):
        return await parts.releases.resolve(owner, address)
    app, _, wanted = address.removeprefix("release:").partition(":")
    if not wanted:
        raise InvalidInput(f"{address!r} names no release", param="target", hint="release:APP:ID")
    return await parts.releases.load(owner, app, wanted)


async def open_release_target(
    parts: Parts, release: Release, name: str, *, cases: Sequence[Case] = ()
) -> WorkspaceTarget:
    """A release, frozen or not.

    Args:
        name: what runs call it.
        cases: what it is going to be asked: documents that these plant are put into a collection of their own.

    Raises: NotFound: what it searches does not exist, or was never ingested. InvalidInput naming the case and the
        variable of the app's prompt that it lacks, or gives wrongly.
    """
    _check_variables(release, cases)
    if has_knowledge(release) and not has_planted(cases):
        collection = RetrievalSpec.model_validate(release.components["retrieval"], extra="ignore").collection
        await parts.knowledge.check_ingested(parts.access.local_owner(), collection)
    target = WorkspaceTarget(parts, name, release, f"app/{release.app}", cases)
    if has_knowledge(release) and has_planted(cases):
        await target.plant(cases)
    return target


def _check_variables(release: Release, cases: Sequence[Case]) -> None:
    declared = prompt_of(release).variables
    for case in cases:
        try:
            check_values(declared, case.variables)
        except InvalidInput as error:
            place = (error.param or FIELD).removeprefix("interlock.")
            raise InvalidInput(
                f"the case {case.id!r}: {error.message}",
                param=f"cases.{case.id}.{place}",
                code=error.code,
                hint="`variables:` of the case, or of the suite for every case"
                if error.code == "missing_variable"
                else error.hint,
            ) from error


class WorkspaceTarget:
    """One release, or a route without one."""

    def __init__(
        self, parts: Parts, name: str, release: Release | None, model: str, cases: Sequence[Case] = ()
    ) -> None:
        self.name = name
        self.release = release
        self._parts = parts
        self._model = model
        self._cases = cases
        self._planted: PlantedCollection | None = None
        self._held = AsyncExitStack()

    async def plant(self, cases: Sequence[Case]) -> None:
        """Let it search the documents of these cases and nothing else. Raises: as `planted`."""
        assert self.release is not None, "a route searches nothing"
        self._planted = await self._held.enter_async_context(planted(self._parts, self.release, cases))

    @property
    def protected(self) -> Sequence[str]:
        """The app's own instructions, which no answer should give away; empty for a route."""
        if self.release is None or "prompt" not in self.release.components:
            return ()
        owner, found = self._parts.access.local_owner(), dict[str, None]()
        unlike = {digest_json(case.variables): case.variables for case in self._cases} or {"": {}}
        for values in islice(unlike.values(), _MOST_PROTECTED):
            try:
                found[render(owner, self.release, values)] = None
            except InvalidInput:
                # Without the values that it needs, nobody is sent it either.
                continue
        return tuple(found)

    @property
    def tags(self) -> Mapping[str, str]:
        """What a run of it is found by besides its release, which may never be frozen: the digest of its prompt."""
        digest = "" if self.release is None else self.release.digests.get("prompt", "")
        return {"prompt": digest} if digest else {}

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
        if self._planted is not None:
            ctx = self._planted.caller(ctx, case)
        elif case.user:
            ctx = self._parts.access.act_as(ctx, case.user)
        request = ChatRequest(self._model, _messages(case), tools=_tools(case), variables=case.variables)
        began = time.perf_counter()
        try:
            return await self._read(ctx, request, began)
        except Blocked:
            # A guardrail that refuses is an answer of the app, not a failure of it.
            return Output(outcome="refused", latency_s=time.perf_counter() - began, trace_id=ctx.trace_id)
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
        # Any: one loop over either flow's events
        events: Any
        if self._planted is not None:
            events = ask(self._planted.parts, ctx, request, self._planted.release)
        elif self.release is not None and has_knowledge(self.release):
            events = ask(self._parts, ctx, request, self.release)
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
        """Remove what was planted. The workspace is closed by whoever opened it."""
        await self._held.aclose()


def _messages(case: Case) -> tuple[Message, ...]:
    if isinstance(case.input, str):
        return (text_message("user", case.input),)
    return tuple(text_message(turn.role, turn.content) for turn in case.input)


def _tools(case: Case) -> tuple[ToolSpec, ...]:
    functions = [each["function"] for each in offered_tools(case)]
    return tuple(
        ToolSpec(each["name"], str(each.get("description") or ""), each.get("parameters") or {"type": "object"})
        for each in functions
    )


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
