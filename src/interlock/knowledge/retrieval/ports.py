"""What retrieval needs from elsewhere: a model, and rerankers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from interlock.core.context import Context
from interlock.core.passages import Passage
from interlock.knowledge.retrieval.allowance import Allowance
from interlock.knowledge.retrieval.types import Said

__all__ = ["Assistant", "Reranker", "RerankerPlugin", "RerankerSurroundings"]


class Assistant(Protocol):
    """A model through the gateway, under the caller's limits and on the caller's bill. Filled in by flows."""

    async def ask(
        self,
        ctx: Context,
        *,
        model: str,
        system: str,
        user: str,
        max_tokens: int,
        # Any: a JSON schema.
        schema: Mapping[str, Any] | None = None,
    ) -> Said:
        """One answer. Network or CPU heavy.

        Args:
            model: a route or ``provider/model``; empty for the app's own route.
            system: instructions.
            user: the question, and passages in it are untrusted text.
            max_tokens: of the answer.
            schema: JSON that the answer is held to, where its provider can.

        Raises: NotFound: no such model, or none given and the caller has no app; the gateway's errors.
        """

    async def rerank(self, ctx: Context, query: str, texts: Sequence[str], *, model: str) -> Sequence[float]:
        """One score for each text, higher is better. Raises: as `ask`; InvalidInput: the model does not rerank."""

    async def screen(self, ctx: Context, passages: Sequence[Passage]) -> Sequence[Passage]:
        """What a model may be shown of passages: the app's guardrails drop and blank. Keeps ids and order."""


@dataclass(frozen=True, slots=True)
class RerankerSurroundings:
    """What a reranker gets from where it runs."""

    models: Path
    """The folder of model weights."""
    threads: int
    model: str
    """As the settings name it."""
    assistant: Assistant | None
    """None where no model can be asked."""
    allowance: Allowance
    """What this search may still spend on models."""
    ask_model: str
    """What `assistant.ask` is to be given as its model."""


class Reranker(Protocol):
    """Reads a question together with each of some passages."""

    async def rerank(self, ctx: Context, query: str, passages: Sequence[Passage]) -> Sequence[float]:
        """One finite score for each passage, higher is better, in input order. May be CPU or network heavy.

        Raises: StepFailed: it cannot be done now; InterlockError.
        """


class RerankerPlugin(Protocol):
    """Opens one kind of reranker. Built-ins are the files of ``knowledge/retrieval/rerankers``."""

    def open(self, given: RerankerSurroundings) -> Reranker:
        """Give the reranker for one search; cheap, weights are loaded on first use and kept.

        Raises: StepFailed: it lacks what it needs; ModelMissing; Misconfigured.
        """

    def identity(self, models: Path, model: str) -> str:
        """What releases pin: a digest of its weights, or a name where others serve them. Raises: ModelMissing."""
