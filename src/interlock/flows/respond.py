"""One request of any wire, from its decoded form to the answer in the same wire's shape, whole or as a stream.

The flows of `chat.py` do the work; this joins what they yield with the codec that the caller speaks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from functools import cache
from typing import Any, NamedTuple

from interlock.core.answers import Answer, AnswerSentence, Quote
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.messages import (
    ChatRequest,
    Finish,
    NativeDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from interlock.core.plugins import Registry
from interlock.core.release import Release
from interlock.flows.chat import Answered, Receipt, ask, chat, has_knowledge
from interlock.flows.parts import Parts
from interlock.flows.views import answer_view, citation_view, claim_view, receipt_view
from interlock.gateway.ports import Asked, FileCited, FileSearched, FileSearchTool, Frame, Inbound, ReplyEvent
from interlock.gateway.service import Served

__all__ = ["Keep", "Responding", "codec"]

# Any in this module: JSON objects on their way out.
_WIRES: Registry[Inbound] = Registry("inbound wire", "interlock.gateway.inbound")
Keep = Callable[[Mapping[str, Any], Collection[str]], Awaitable[None]]
"""Stores a finished answer, with the ids of the documents it was made from, before its last event is sent."""


@cache
def codec(wire: str) -> Inbound:
    """The codec of a wire, as `openai.chat`."""
    return _WIRES.get(wire.replace(".", "_"))


class _Step(NamedTuple):
    event: ReplyEvent
    extension: Mapping[str, object] | None
    text: str | None = None
    """On the last step of an app's answer: its whole text, checked as a whole."""
    documents: frozenset[str] = frozenset()
    """On the last step: those that the answer was made from."""


async def _steps(
    parts: Parts,
    ctx: Context,
    request: ChatRequest,
    release: Release | None,
    served: Served,
    *,
    answered: Answered | None,
    searching: FileSearchTool | None,
) -> AsyncGenerator[_Step, None]:
    """Events of the canonical answer, with what each says beyond it; the last is a Finish with the whole receipt."""
    if release is not None and request.only:
        # An app's guards read text: what they cannot read would go past them.
        raise InvalidInput(
            f"an app cannot take {request.only[0].what}", param=request.only[0].param, code="unsupported_content"
        )
    knowledge = release is not None and has_knowledge(release)
    if knowledge and searching is not None:
        raise InvalidInput(
            "an app with documents searches them itself", param=searching.param, hint="leave out file_search"
        )
    if release is not None and knowledge:
        events: AsyncGenerator[Any, None] = ask(parts, ctx, request, release, served=served)
    else:
        events = chat(parts, ctx, request, release, served=served, answered=answered, searching=searching)
    sentences = 0
    finish: Finish | None = None
    facts: dict[str, Any] = {}
    text: str | None = None
    documents: set[str] = set()
    async with aclosing(events):
        async for event in events:
            match event:
                case Quote(citation):
                    yield _Step(TextDelta(""), {"event": "quote", "citation": citation_view(citation)})
                case AnswerSentence():
                    # A space between sentences, which the next one brings along.
                    delta = TextDelta(f" {event.text}" if sentences else event.text)
                    sentences += 1
                    citations = [citation_view(citation) for citation in event.citations]
                    told = {
                        "event": "sentence",
                        "origin": event.origin,
                        "support": event.support,
                        "citations": citations,
                        "claims": [claim_view(claim) for claim in event.claims],
                    }
                    yield _Step(delta, told)
                case FileSearched():
                    documents |= {passage.document_id for passage in event.results}
                    yield _Step(event, None)
                case TextDelta() | ReasoningDelta() | ToolCallDelta() | NativeDelta() | FileCited():
                    yield _Step(event, None)
                case Finish():
                    finish = event
                case Answer():
                    facts, text = answer_view(event), event.text
                    documents |= {passage.document_id for passage in event.passages}
                    documents |= {citation.document_id for citation in event.citations}
                case Receipt():
                    end = finish or Finish("stop", event.usage, request.model)
                    told = {"event": "done", **receipt_view(event), **facts}
                    yield _Step(end, told, text, frozenset(documents))


class Responding:
    """One call.

    Args:
        keep: called once with the finished answer, before the caller can know that it is finished.
        answered: the model's answer, when it is there already.
    """

    def __init__(
        self,
        parts: Parts,
        ctx: Context,
        wire: Inbound,
        asked: Asked,
        release: Release | None,
        *,
        keep: Keep | None = None,
        answered: Answered | None = None,
    ) -> None:
        self._parts = parts
        self._ctx = ctx
        self._request = asked.request
        self._release = release
        self._reply = wire.reply(asked)
        self._keep = keep
        self._answered = answered
        self._searching: FileSearchTool | None = asked.options.get("file_search")
        self.documents: frozenset[str] = frozenset()
        """Those that the finished answer was made from."""
        self.served = Served()
        """Which targets were tried and why, once an answer began."""

    def _run(self) -> AsyncGenerator[_Step, None]:
        return _steps(
            self._parts,
            self._ctx,
            self._request,
            self._release,
            self.served,
            answered=self._answered,
            searching=self._searching,
        )

    async def whole(self) -> dict[str, Any]:
        """The answer as one object. Raises: what the flows raise."""
        events: list[ReplyEvent] = []
        extension: Mapping[str, object] = {}
        async with aclosing(self._run()) as steps:
            async for step in steps:
                if step.text is not None:
                    events = [TextDelta(step.text)]
                events.append(step.event)
                self.documents |= step.documents
                if isinstance(step.event, Finish):
                    extension = {name: value for name, value in (step.extension or {}).items() if name != "event"}
        answer = self._reply.whole(events, extension)
        if self._keep is not None:
            await self._keep(answer, self.documents)
        return answer

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """The answer as server-sent events. An error before the first one is raised, a later one is told."""
        begun = False
        async with aclosing(self._run()) as steps:
            try:
                async for step in steps:
                    frames = self._reply.frames(step.event, step.extension)
                    self.documents |= step.documents
                    if self._keep is not None and self._reply.document is not None:
                        await self._keep(self._reply.document, self.documents)
                    for frame in frames:
                        begun = True
                        yield frame
            except InterlockError as error:
                if not begun:
                    raise
                for frame in self._reply.failed(error):
                    yield frame
