"""What a part may need from elsewhere, as small protocols. `app.py` fills them; no part imports another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

from interlock.core.context import Context
from interlock.core.messages import ChatEvent, ChatRequest, Usage
from interlock.core.money import Money
from interlock.core.passages import Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Admitted",
    "ChatModel",
    "Embedder",
    "Meter",
    "PriceBook",
    "Quoter",
    "Retriever",
    "Rights",
    "TokenEmbedder",
    "TokenVectors",
]


class ChatModel(Protocol):
    """Answers a conversation. A judge, an agent, a rewriter gets one of these, never the gateway."""

    def stream(self, ctx: Context, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """Yield deltas and, last, one :class:`~interlock.core.messages.Finish`.

        Close it (``aclosing``) to stop the model. Network or CPU heavy.
        Raises: ProviderError, LimitExceeded, DeadlineExceeded, ModelMissing, InvalidInput.
        """


class Embedder(Protocol):
    """Turns text into unit vectors."""

    @property
    def id(self) -> str:
        """Identity of the embedding space: model, quantisation and prefix policy. Vectors of two ids never mix."""

    @property
    def dimensions(self) -> int:
        """Length of a vector."""

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens that is read whole."""

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` without special tokens."""

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        """``(len(texts), dimensions)`` float32, L2-normalised, in input order. CPU heavy; runs off the event loop.

        Raises: TooLarge: a text is longer than `max_tokens`; ModelMissing.
        """


class TokenVectors(NamedTuple):
    """A text by its tokens."""

    tokens: Sequence[str]
    """As the model's vocabulary has them, without its marks."""
    vectors: NDArray[np.float32]
    """``(len(tokens), dimensions)``, L2-normalised: each token in the context of its text."""


@runtime_checkable
class TokenEmbedder(Protocol):
    """An embedder that also gives the vectors of single tokens, before they are pooled."""

    def tokens_of(self, text: str) -> Sequence[str]:
        """The tokens of a text as `embed_tokens` has them, without running the model."""

    async def embed_tokens(self, texts: Sequence[str]) -> Sequence[TokenVectors]:
        """In input order. CPU heavy; runs off the event loop.

        Raises: TooLarge: a text is longer than the model reads; ModelMissing; Misconfigured: the model gives none.
        """


class Retriever(Protocol):
    """Finds passages the caller may read."""

    async def search(self, ctx: Context, query: str, *, limit: int) -> Sequence[Passage]:
        """Best first; only passages whose document lists one of `ctx.readers`."""


class Rights(Protocol):
    """Says what a caller may read at this moment."""

    async def may_read(self, ctx: Context, documents: Collection[str]) -> bool:
        """Whether the caller may read every one of these documents now. One that is not there any more nobody may read.

        Raises: Unavailable: a document stands in an index elsewhere that does not answer.
        """


class Quoter(Protocol):
    """Chooses the sentences of passages that answer a question, without a model."""

    async def quote(self, question: str, passages: Sequence[Passage], *, limit: int) -> Sequence[str]:
        """At most `limit` verbatim sentences, best first, each followed by its ``[n]`` passage marker (1-based)."""


class Admitted(Protocol):
    """A reservation for one try. Whoever gets it charges or drops it on every exit."""

    def charge(self, usage: Usage) -> None:
        """The try served: settle it at `usage`. Once only."""

    def drop(self) -> None:
        """The try did not serve: release it. Does nothing after `charge` or `drop`."""


class Meter(Protocol):
    """Admits the tries of one request and charges those that served."""

    def pressure(self) -> float:
        """How far the fullest money budget of the caller is used, as far as this worker knows: 0 to 1, or above."""

    async def admit(self, provider: str, model: str, estimate: Usage) -> Admitted:
        """Reserve for a try under every limit and budget.

        Raises: LimitExceeded, BudgetExceeded: nothing is held, and another target may still be admitted.
        """


class PriceBook(Protocol):
    """What a call costs."""

    def price(self, provider: str, model: str, usage: Usage) -> Money | None:
        """Cost of `usage`, or None when the model is unpriced (never zero for unknown)."""
