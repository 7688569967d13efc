"""How well the tokens of answer and reference match in meaning: each is paired with the nearest one of the other text.

BERTScore with the workspace's own embedder in place of BERT, so its values compare with each other and not with
published ones, and are high even for texts that have little in common (look at the floors). A negation or another
number changes it little: it proves no answer right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple
from weakref import WeakKeyDictionary

from anyio import to_thread
from pydantic import BaseModel, ConfigDict, Field

from interlock.core.ports import Embedder, TokenEmbedder, TokenVectors
from interlock.evals.metrics._embedding import beginning
from interlock.evals.metrics._references import NO_REFERENCE
from interlock.evals.metrics._words import encodable
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Options", "plugin"]

Report = Literal["f1", "precision", "recall"]
Weight = Callable[[str], float]


class Options(BaseModel):
    """What is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    report: Report = Field(
        default="f1", description="precision: tokens of the answer that are in the reference; recall: the reverse"
    )
    idf: bool = Field(default=False, description="tokens that are in many of the suite's references count less")


class _Match(NamedTuple):
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total > 0 else 0.0


async def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """In [0, 1], of the reference with the best F1."""
    references = [encodable(each) for each in case.references if each.strip()]
    if not references:
        return Score(None, NO_REFERENCE)
    embedder = instruments.embedder
    if embedder is None or not isinstance(embedder, TokenEmbedder):
        return Score(None, "there is no embedder that gives vectors of single tokens")
    if not output.text.strip():
        return Score(0.0, "the answer is empty")
    texts = [encodable(output.text), *references]
    cut = [beginning(embedder, text) for text in texts]
    answer, *others = await embedder.embed_tokens(cut)
    weight: Weight = _alike
    if options.idf:
        weight = await _weights(embedder, tuple(instruments.references) or tuple(references))
    matches = [match for other in others if (match := _matched(answer, other, weight)) is not None]
    if not matches:
        return Score(None, "no token is left that tells one text from another")
    best = max(matches, key=lambda match: match.f1)
    note = "" if cut == texts else "only the beginning of a long text was compared"
    return Score(getattr(best, options.report), note)


def _matched(answer: TokenVectors, reference: TokenVectors, weight: Weight) -> _Match | None:
    """Greedy matching; None where one side has no token of any weight."""
    if not answer.tokens or not reference.tokens:
        return None
    near = answer.vectors @ reference.vectors.T
    precision = _mean(near.max(axis=1), [weight(token) for token in answer.tokens])
    recall = _mean(near.max(axis=0), [weight(token) for token in reference.tokens])
    return None if precision is None or recall is None else _Match(precision, recall)


def _mean(nearest: NDArray[np.float32], weights: Sequence[float]) -> float | None:
    total = math.fsum(weights)
    if total <= 0:
        return None
    value = math.fsum(float(each) * weight for each, weight in zip(nearest, weights, strict=True)) / total
    return min(1.0, max(0.0, value))


async def _weights(embedder: Embedder, references: tuple[str, ...]) -> Weight:
    return await to_thread.run_sync(lambda: _idf(embedder, references))


def _alike(_: str) -> float:
    return 1.0


_known: WeakKeyDictionary[TokenEmbedder, tuple[tuple[str, ...], Weight]] = WeakKeyDictionary()
"""The weights of each embedder's last references: the same for every case of a run."""


def _idf(embedder: Embedder, references: tuple[str, ...]) -> Weight:
    """log((M + 1) / (n + 1)) of a token that is in n of M references, as of Zhang et al., equation 3."""
    assert isinstance(embedder, TokenEmbedder), "asked for by `score`"
    known = _known.get(embedder)
    if known is not None and known[0] == references:
        return known[1]
    found: Counter[str] = Counter()
    for reference in references:
        found.update(set(embedder.tokens_of(beginning(embedder, encodable(reference)))))
    most = len(references) + 1

    def weight(token: str) -> float:
        return math.log(most / (found[token] + 1))

    _known[embedder] = (references, weight)
    return weight


plugin = Metric(
    Options,
    "unit",
    score,
    needs=frozenset({"token_vectors"}),
    source="Zhang et al. 2020 (BERTScore), without baseline rescaling",
)
