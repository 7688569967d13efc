"""An answer from passages that two ways of searching have found, and whose of them it cites."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Mapping

from interlock.core.answers import Answer
from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.core.passages import Passage
from interlock.core.release import Release
from interlock.flows.parts import Parts
from interlock.knowledge.release import RetrievalSpec
from interlock.knowledge.retrieval.interleaving import Drafted, credit, team_draft

__all__ = ["Interleaved", "interleaved_of"]

_log = logging.getLogger("interlock.experiment")
_ACCEPTED = frozenset({"generated", "repaired", "extracted"})
"""Answers that were given: what a declined or flagged one cites speaks for nobody."""


class Interleaved:
    """One request of an experiment that interleaves."""

    def __init__(self, variant: RetrievalSpec, *, limit: int) -> None:
        self._variant = variant
        self._limit = limit
        self._drafted: Drafted | None = None

    async def mixed(
        self, ctx: Context, control: list[Passage], search: Callable[[RetrievalSpec], Awaitable[list[Passage]]]
    ) -> list[Passage]:
        """The control's passages with those of the variant among them, no more than its own would be. Two searches.

        A variant that cannot search leaves them as they were, and the request is no evidence.
        """
        self._drafted = None
        try:
            variant = await search(self._variant)
        except InterlockError as error:
            _log.warning("the variant of an experiment cannot search: %s", error.code)
            return control
        # Whoever reads the trace can draw the same coins again.
        coins = random.Random(ctx.trace_id)  # noqa: S311 - fair coins, no secret
        self._drafted = team_draft(control, variant, limit=self._limit, draw=coins)
        return list(self._drafted.passages)

    def credited(self, answer: Answer) -> Mapping[str, int]:
        """What the answer's citations say, for the request's span; empty where they say nothing."""
        if self._drafted is None or answer.outcome not in _ACCEPTED:
            return {}
        won = credit(self._drafted, answer.citations)
        return {"interlock.interleave.control": won.control, "interlock.interleave.variant": won.variant}


async def interleaved_of(parts: Parts, ctx: Context, release: Release) -> Interleaved | None:
    """The second search of this request; None without one."""
    given = release.assignment
    if given is None or given.interleaved is None:
        return None
    variant = await parts.releases.exactly(ctx, release.app, given.interleaved)
    wanted, own = (
        RetrievalSpec.model_validate(each.components["retrieval"], extra="ignore") for each in (variant, release)
    )
    return Interleaved(wanted, limit=own.limit)
