"""A model that the gateway reaches: any provider with an embeddings API, on the caller's bill."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    InterlockError,
    InvalidInput,
    LimitExceeded,
    Misconfigured,
    TooLarge,
    Unavailable,
)
from interlock.core.ports import Embedder
from interlock.knowledge.extras import needs_extra
from interlock.knowledge.ports import VectorModel
from interlock.knowledge.settings import EmbedderFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ProviderEmbedder", "plugin", "tokens_at_most"]

_CALL_S = 60.0
"""For one request with passages."""
_TRIES = 6
_LONGEST_PAUSE_S = 20.0
"""Five such pauses are shorter than the lease of a job, which is renewed between two batches."""
_REQUEST_CHARACTERS = 200_000
_PIECES = re.compile(r"[A-Za-z]+|\d|\s+|.", re.ASCII | re.DOTALL)
_LETTERS_OF_A_TOKEN = 2


def tokens_at_most(text: str) -> int:
    """Tokens of a text by a count that leans to more: whose tokenizer it is cannot be known here.

    Two letters of a word are a token, a digit and a sign each, a run of white space, and each byte of a letter beyond
    ASCII. English has about half of that, other scripts a third to a half.
    """
    # A single space goes into the word that follows, in every tokenizer in use.
    return sum(_of_piece(piece) for piece in _PIECES.findall(text) if piece != " ")


def _of_piece(piece: str) -> int:
    if not piece.isascii():
        return len(piece.encode())
    return -(-len(piece) // _LETTERS_OF_A_TOKEN) if piece.isalpha() else 1


class ProviderEmbedder:
    """L2-normalised vectors of a provider's model. Every batch is a call of the gateway: priced, limited, audited.

    Args:
        model: as callers of the gateway name it: ``provider/model`` or ``route/name``.
        facts: what the settings say of it.
        served: makes the vectors.
        ctx: who pays; without one nothing can be embedded.
    """

    def __init__(self, model: str, facts: EmbedderFacts, served: VectorModel, ctx: Context | None = None) -> None:
        self._model = model
        self._facts = facts
        self._served = served
        self._ctx = ctx
        prefixes = f"{facts.query_prefix}\0{facts.passage_prefix}"
        policy = hashlib.sha256(prefixes.encode()).hexdigest()[:8] if prefixes != "\0" else "no-prefix"
        self.id = f"provider:{model}:{facts.dimensions}:{policy}"
        self.dimensions = facts.dimensions
        self._taken = max(tokens_at_most(facts.query_prefix), tokens_at_most(facts.passage_prefix))
        self.max_tokens = facts.max_tokens - self._taken
        """Less the longer prefix."""

    def for_caller(self, ctx: Context) -> ProviderEmbedder:
        """The same model, on this caller's bill."""
        return ProviderEmbedder(self._model, self._facts, self._served, ctx)

    def count_tokens(self, text: str) -> int:
        """See `tokens_at_most`."""
        return tokens_at_most(text)

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        """``(len(texts), dimensions)`` float32, L2-normalised, in input order. Network.

        A question is asked within the caller's deadline. Batches of passages wait their turn when a limit or the
        provider says so, some twenty seconds at a time.
        Raises: TooLarge, LimitExceeded, BudgetExceeded, DeadlineExceeded; Unavailable: the model is away;
        Misconfigured: it gives other vectors than the settings say.
        """
        with needs_extra("provider"):
            import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for text in texts:
            tokens = tokens_at_most(text)
            if tokens > self.max_tokens:
                raise TooLarge(
                    f"a text of up to {tokens} tokens is longer than the {self.max_tokens} that {self._model!r} reads "
                    "whole",
                    hint="split it into shorter passages, or set knowledge.embedder_facts.max_tokens to the model's",
                )
        prefix = self._facts.query_prefix if kind == "query" else self._facts.passage_prefix
        done = 0
        for batch in self._batches([prefix + text for text in texts]):
            made = await self._made(batch, kind)
            vectors[done : done + len(batch)] = self._unit(made, len(batch))
            done += len(batch)
        return vectors

    def _batches(self, texts: Sequence[str]) -> list[list[str]]:
        batches: list[list[str]] = []
        room = 0
        for text in texts:
            if not batches or len(batches[-1]) == self._facts.batch or room < len(text):
                batches.append([])
                room = _REQUEST_CHARACTERS
            batches[-1].append(text)
            room -= len(text)
        return batches

    async def _made(self, texts: list[str], kind: Literal["query", "passage"]) -> Sequence[Sequence[float]]:
        if self._ctx is None:
            raise Misconfigured(
                f"vectors of {self._model!r} are paid for, and nobody is there to pay",
                param="knowledge.embedder",
                hint="`provider` may embed what is searched; what judges answers needs an embedder of this machine",
            )
        pause = 1.0
        for attempt in range(1, _TRIES + 1):
            ctx = self._ctx if kind == "query" else replace(self._ctx, deadline=Deadline.after(_CALL_S))
            try:
                return (await self._served.vectors(ctx, self._model, texts)).vectors
            except BudgetExceeded:
                raise
            except InterlockError as error:
                if kind == "query" or not error.retryable or attempt == _TRIES:
                    raise self._away(error, kind) from error
                wait_s = min(error.retry_after_s or pause, _LONGEST_PAUSE_S)
            await anyio.sleep(wait_s)
            pause *= 2
        raise AssertionError("the last attempt raises")

    def _away(self, error: InterlockError, kind: Literal["query", "passage"]) -> InterlockError:
        """The error as somebody meets it who asked for a search or an ingest, not for an embedding."""
        if isinstance(error, LimitExceeded | DeadlineExceeded):
            return error
        if isinstance(error, InvalidInput):
            return Misconfigured(
                f"the embedding model {self._model!r} refuses what it is asked: {error.message}",
                param="knowledge.embedder_model",
                hint=error.hint,
            )
        hint = "try again when it answers"
        if kind == "query":
            hint += "; a search with the mode lexical needs no model"
        return Unavailable(
            f"the embedding model {self._model!r} does not answer ({error.code})",
            code="embedder_away",
            hint=hint,
            retryable=True,
            retry_after_s=error.retry_after_s,
        )

    def _unit(self, made: Sequence[Sequence[float]], wanted: int) -> NDArray[np.float32]:
        import numpy as np

        lengths = {len(vector) for vector in made}
        if len(made) != wanted or lengths != {self.dimensions}:
            told = ", ".join(map(str, sorted(lengths))) or "no"
            raise Misconfigured(
                f"{self._model!r} gave {len(made)} vectors of {told} dimensions for {wanted} texts; the settings say "
                f"{self.dimensions}",
                param="knowledge.embedder_facts.dimensions",
                hint="set it to what the model gives",
                code="embedder_dimensions",
            )
        found = np.asarray(made, dtype=np.float32)
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        if not np.isfinite(found).all() or (norms < 1e-6).any():
            raise Unavailable(f"{self._model!r} gave a vector without a direction", code="embedder_away")
        unit: NDArray[np.float32] = found / norms
        return unit


class _Plugin:
    def open(self, models: Path, *, threads: int, model: str = "") -> Embedder:
        raise Misconfigured(
            "the embedder 'provider' asks models of the gateway, and there is none here", param="knowledge.embedder"
        )

    def open_served(self, model: str, facts: EmbedderFacts, vectors: VectorModel) -> Embedder:
        if not model:
            raise InvalidInput(
                "the embedder 'provider' needs a model of the gateway",
                param="knowledge.embedder_model",
                hint="embedder_model: openai/text-embedding-3-small",
            )
        embedder = ProviderEmbedder(model, facts, vectors)
        if embedder.max_tokens < 1:
            raise InvalidInput("the prefixes leave no room for a text", param="knowledge.embedder_facts")
        return embedder


plugin = _Plugin()
