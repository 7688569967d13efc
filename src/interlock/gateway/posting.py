"""A route's `post`: deterministic rewriting of an answer's text, as a chain of plug-ins."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from interlock.core.errors import InterlockError, Misconfigured
from interlock.core.messages import ChatEvent, Finish, TextDelta, ToolCallDelta
from interlock.core.patterns import aside
from interlock.core.plugins import Registry
from interlock.gateway.ports import PostFactory, Rewrite

__all__ = ["PostStep", "chain", "posted"]

PostStep = str | dict[str, object]
"""A hook's name, or its name with its options: ``trim``, ``{max_chars: 2000}``."""
_HOOKS: Registry[PostFactory] = Registry("post", "interlock.gateway.post")


def chain(steps: Sequence[PostStep]) -> list[Rewrite]:
    """The hooks of a route, in order. Raises: Misconfigured naming the step."""
    return [_step(position, step) for position, step in enumerate(steps)]


def _step(position: int, step: PostStep) -> Rewrite:
    if isinstance(step, Mapping):
        if len(step) != 1:
            raise Misconfigured("a step of `post` is one hook", param=f"post.{position}", hint="as {max_chars: 2000}")
        ((name, options),) = step.items()
    else:
        name, options = step, None
    try:
        return _HOOKS.get(name)(options)
    except ValueError as error:
        raise Misconfigured(str(error), param=f"post.{position}") from error
    except InterlockError as error:
        raise Misconfigured(error.message, param=f"post.{position}", hint=error.hint) from error


def _rewritten(text: str, hooks: Sequence[Rewrite]) -> str:
    for rewrite in hooks:
        text = rewrite(text)
    return text


async def posted(events: AsyncGenerator[ChatEvent, None], hooks: Sequence[Rewrite]) -> AsyncGenerator[ChatEvent, None]:
    """Events with the text of the whole answer rewritten; text is held back until the end, other events before it.

    An answer that only calls tools has no text and passes as it is.
    """
    texts: list[TextDelta] = []
    calls: list[ToolCallDelta] = []
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TextDelta):
                texts.append(event)
            elif isinstance(event, ToolCallDelta):
                calls.append(event)
            elif isinstance(event, Finish):
                if texts and not any(delta.refusal for delta in texts):
                    text = "".join(delta.text for delta in texts)
                    text = await aside(partial(_rewritten, text, hooks))
                    # Pieces of a rewritten text have no probabilities of their own any more.
                    yield replace(texts[0], text=text, logprobs=None)
                else:
                    for delta in texts:
                        yield delta
                for call in calls:
                    yield call
                yield event
            else:
                yield event
