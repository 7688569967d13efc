"""Questions that mean the same as one that was answered.

Only the last user message may differ: everything else of a call (earlier turns, system prompt, parameters, tenant,
permissions) is in the key of the bucket. Off unless a route asks for it, and then only with a recorded calibration.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.core.errors import InterlockError, Misconfigured
from interlock.core.ports import Embedder
from interlock.gateway.cache.calibration import Calibration
from interlock.gateway.cache.guards import difference
from interlock.gateway.cache.store import CacheStore, Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Question", "Semantic"]

_MOST_QUESTIONS = 200
_MOST_CHARS = 1_000
"""A longer message is more than a question."""


class Question(NamedTuple):
    """The last user message of a call and the bucket it is looked for in."""

    text: str
    bucket: Place


class Semantic:
    """Finds kept answers by the meaning of their question.

    Args:
        clock: Unix seconds.
    """

    def __init__(
        self,
        store: CacheStore,
        embedder: Embedder | None,
        calibration: Calibration | None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._calibration = calibration
        self._clock = clock

    def use(self, calibration: Calibration | None) -> None:
        """Take over another record: one was made, or made anew, while this process ran."""
        self._calibration = calibration

    def require(self, route: str) -> None:
        """Raise Misconfigured unless there is a calibration for the embedder in use."""
        setting = f"gateway.routes.{route or '*'}.cache.semantic"
        if self._embedder is None:
            raise Misconfigured("the semantic cache needs an embedder", param=setting, hint="leave it off")
        if self._calibration is None or self._calibration.embedder != self._embedder.id:
            raise Misconfigured(
                f"the semantic cache has no calibration for the embedder {self._embedder.id!r}",
                param=setting,
                hint="interlock cache calibrate PAIRS.jsonl --precision 0.99, then interlock reload; or leave it off",
                code="semantic_cache_uncalibrated",
            )

    async def find(self, question: Question) -> str | None:
        """Digest of the answer of the nearest question that means the same."""
        rows = await self._rows(question.bucket)
        if not rows or len(question.text) > _MOST_CHARS:
            return None
        vector = await self._vector(question.text)
        if vector is None:
            return None
        assert self._calibration is not None, "`require` was asked"
        scores = _unpacked([row["vector"] for row in rows]) @ vector
        # Nearest first; the guards are the dearer half, so they look only at what is near enough.
        for position in (-scores).argsort():
            if scores[position] < self._calibration.threshold:
                return None
            if not difference(question.text, rows[position]["text"]):
                digest: str = rows[position]["digest"]
                return digest
        return None

    async def keep(self, question: Question, digest: str, ttl_s: float) -> None:
        """Note that `question` has the answer `digest`. Two workers at once may lose one question: a missed hit."""
        if len(question.text) > _MOST_CHARS:
            return
        vector = await self._vector(question.text)
        if vector is None:
            return
        rows = [row for row in await self._rows(question.bucket) if row["digest"] != digest]
        row = {
            "text": question.text,
            "digest": digest,
            "until": self._clock() + ttl_s,
            "vector": _packed(vector),
        }
        data = json.dumps([*rows, row][-_MOST_QUESTIONS:], ensure_ascii=False, separators=(",", ":"))
        await self._store.keep_questions(question.bucket, data.encode(), ttl_s)

    # Any: JSON that `keep` wrote.
    async def _rows(self, bucket: Place) -> list[dict[str, Any]]:
        data = await self._store.questions(bucket)
        if data is None:
            return []
        return [row for row in json.loads(data) if row["until"] > self._clock()]

    async def _vector(self, text: str) -> NDArray[np.float32] | None:
        assert self._embedder is not None, "`require` was asked"
        try:
            vectors = await self._embedder.embed([text], "query")
        except InterlockError:
            # Too long, or the embedder is away: the call goes on without this help.
            return None
        first: NDArray[np.float32] = vectors[0]
        return first


def _packed(vector: NDArray[np.float32]) -> str:
    """As float16: half the bytes, and a difference far below what a threshold can resolve."""
    return base64.b64encode(vector.astype("<f2").tobytes()).decode()


def _unpacked(vectors: list[str]) -> NDArray[np.float32]:
    """``(n, d)`` float32, as they were packed."""
    import numpy as np

    return np.stack([np.frombuffer(base64.b64decode(text), dtype="<f2") for text in vectors]).astype(np.float32)
