"""What one search may spend on models: calls, seconds and tokens, over all of its steps."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.knowledge.retrieval.settings import ModelSettings
from interlock.knowledge.retrieval.types import Said, StepFailed

__all__ = ["Allowance"]

T = TypeVar("T")
_CHARACTERS_A_TOKEN = 3
"""Rather too few: what a call will read is estimated before it is made."""


class Allowance:
    """Counts what the steps of one search spend.

    Args:
        settings: the bounds.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self.calls = 0
        self.tokens = 0
        self._until: float | None = None

    async def ask(self, ctx: Context, call: Callable[[Context], Awaitable[Said]], *, read: int, max_tokens: int) -> str:
        """What a model says.

        Args:
            ctx: whose deadline bounds the call too.
            call: makes it, under the context it is given.
            read: characters of what it reads.
            max_tokens: of its answer.

        Raises: StepFailed: the allowance is spent, or the model failed or took too long.
        """
        expected = read // _CHARACTERS_A_TOKEN + max_tokens
        if self.tokens + expected > self._settings.max_tokens:
            raise StepFailed(f"it would pass max_tokens ({self._settings.max_tokens})", skipped=True)
        said = await self.spend(ctx, call)
        # A provider that gives no figures has still read and written.
        self.tokens += said.tokens or read // _CHARACTERS_A_TOKEN + len(said.text) // _CHARACTERS_A_TOKEN
        return said.text

    async def spend(self, ctx: Context, call: Callable[[Context], Awaitable[T]]) -> T:
        """One call of any kind. Raises: StepFailed as `ask`."""
        if self.calls >= self._settings.max_calls:
            raise StepFailed(f"max_calls ({self._settings.max_calls}) were made", skipped=True)
        if self._until is None:
            self._until = time.monotonic() + self._settings.max_seconds
        left = min(self._until - time.monotonic(), ctx.deadline.remaining_s())
        if left <= 0:
            raise StepFailed(f"max_seconds ({self._settings.max_seconds:g}) are over", skipped=True)
        self.calls += 1
        try:
            with anyio.fail_after(left):
                return await call(ctx.with_deadline(Deadline.after(left)))
        except TimeoutError as error:
            raise StepFailed("the model took too long") from error
        except InterlockError as error:
            raise StepFailed(f"the model failed: {error.code}") from error
