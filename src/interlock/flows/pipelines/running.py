"""A pipeline in the place of a model: the last user message is its text, what comes out of it the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.messages import ChatEvent, ChatRequest, Finish, TextDelta, Usage, text_message
from interlock.flows.metering import StreamModel
from interlock.flows.pipelines.splitting import parts_of
from interlock.flows.pipelines.steps import Source, classify, draft, extract, summarise
from interlock.flows.pipelines.types import PipelineSpec
from interlock.gateway.collecting import gathered

__all__ = ["working"]


def working(model: StreamModel, spec: PipelineSpec) -> StreamModel:
    """`model`, asked as often as the pipeline takes."""

    def stream(ctx: Context, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        return _Run(model, spec, ctx, request).stream()

    return stream


class _Run:
    """One text."""

    def __init__(self, model: StreamModel, spec: PipelineSpec, ctx: Context, request: ChatRequest) -> None:
        self._model, self._spec, self._ctx, self._request = model, spec, ctx, request
        self._usage = Usage()
        self._finish: Finish | None = None

    async def stream(self) -> AsyncGenerator[ChatEvent, None]:
        text = self._request.last_user_text
        if not text.strip():
            raise InvalidInput("there is no text: the last user message is empty", param="messages")
        if self._request.tools:
            raise InvalidInput("an app that works through a text takes no tools", param="tools")
        source = Source([text[span.start : span.end] for span in parts_of(text, self._spec)], self._ask, self._tell)
        async with aclosing(self._steps(source)) as pieces:
            async for piece in pieces:
                yield TextDelta(piece)
        assert self._finish is not None, "every pipeline asks the model"
        # What all its calls used; the last one's own identity.
        yield replace(self._finish, usage=self._usage)

    def _steps(self, source: Source) -> AsyncGenerator[str, None]:
        spec = self._spec
        if spec.kind == "summarise":
            return summarise(spec, source, self._each)
        if spec.kind == "classify":
            return classify(spec, source, self._each)
        if spec.kind == "draft":
            return draft(spec, source, self._each)
        schema = self._request.response_schema
        assert schema is not None, "checked when the app's file was read"
        return extract(spec, source, self._each, schema)

    # Any: a JSON schema
    async def _each(self, tasks: Sequence[tuple[str, Mapping[str, Any] | None]]) -> list[str]:
        gate = asyncio.Semaphore(self._spec.concurrency)

        async def one(task: str, schema: Mapping[str, Any] | None) -> str:
            async with gate:
                return await self._ask(task, schema)

        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(one(task, schema)) for task, schema in tasks]
        except BaseExceptionGroup as error:
            # One that failed ends the others: what it raised is what went wrong.
            raise next(each for each in _flat(error) if not isinstance(each, asyncio.CancelledError)) from error
        return [task.result() for task in running]

    async def _ask(self, task: str, schema: Mapping[str, Any] | None) -> str:  # Any: a JSON schema
        events: list[ChatEvent] = []
        async with aclosing(self._model(self._ctx, self._asking(task, schema))) as stream:
            async for event in stream:
                events.append(event)
        result = gathered(events)
        self._used(result.finish)
        return result.message.text

    async def _tell(self, task: str) -> AsyncGenerator[str, None]:
        async with aclosing(self._model(self._ctx, self._asking(task, None))) as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    yield event.text
                elif isinstance(event, Finish):
                    self._used(event)

    def _used(self, finish: Finish) -> None:
        self._usage += finish.usage
        self._finish = finish

    def _asking(self, task: str, schema: Mapping[str, Any] | None) -> ChatRequest:  # Any: a JSON schema
        """The app's instructions and examples, and the task in the place of the user's message."""
        before = [message for message in self._request.messages if message.role == "system"]
        return replace(
            self._request,
            messages=(*before, text_message("user", task)),
            response_schema=schema,
            schema_name=None if schema is None else self._request.schema_name or "form",
        )


def _flat(error: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in error.exceptions:
        found += _flat(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found
