"""A small linear head over the embedder's vector and hashed words: how toxic a passage is, by category.

Fitted by ``benchmarks/fit_toxicity.py``; the weights and their card stand in ``_toxic.json``. A category is covered
where held-out rows showed enough recall at 1 % false positives; of the others nothing is said.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.core.ports import Embedder
from interlock.evals.metrics._words import encodable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BUCKETS", "Head", "heads", "lexical", "probabilities", "windows"]

BUCKETS = 4096
_WORDS = 60
_MOST_WINDOWS = 200
_LEET = str.maketrans("013457@$!", "oieastasi")


@dataclass(frozen=True, slots=True)
class Head:
    """The weights of one category."""

    category: str
    covered: bool
    threshold: float
    """Probability from which on a text is called toxic: 1 % of held-out harmless texts are above it."""
    bias: float
    dense: tuple[float, ...]
    words: tuple[float, ...]


@cache
def heads() -> tuple[str, Mapping[str, Head], Mapping[str, Any]]:  # Any: the card, for people
    """The embedder that the weights belong to, the head of each category, the card."""
    told = json.loads(Path(__file__).with_name("_toxic.json").read_text("utf-8"))
    made = {
        name: Head(
            name,
            each["covered"],
            each["threshold"],
            each["bias"] / 1000,
            tuple(weight / 1000 for weight in each["dense"]),
            tuple(weight / 1000 for weight in each["words"]),
        )
        for name, each in told["categories"].items()
    }
    return told["embedder"], made, told["card"]


def windows(text: str) -> list[str]:
    """The text in runs of some sixty words, which end with sentences where these are short enough."""
    found: list[str] = []
    held: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+|\n{2,}", encodable(text)):
        words = sentence.split()
        while len(held) + len(words) > _WORDS and (held or words):
            room = 0 if held else _WORDS
            held, words = held + words[:room], words[room:]
            found.append(" ".join(held))
            held = []
        held += words
    if held:
        found.append(" ".join(held))
    return [each for each in found if each][:_MOST_WINDOWS]


def lexical(text: str) -> dict[int, float]:
    """Bucket to weight, of unit length: words, and letter sequences that survive a misspelling."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(c for c in plain if unicodedata.category(c) != "Cf").translate(_LEET)
    words = re.findall(r"[^\W_]+", plain)
    grams = {f"w {word}" for word in words}
    grams |= {f"p {first} {second}" for first, second in pairwise(words)}
    for word in words:
        padded = f"<{word}>"
        grams |= {f"c {padded[at : at + 4]}" for at in range(len(padded) - 3)}
    counts: dict[int, float] = {}
    for gram in grams:
        bucket = zlib.crc32(gram.encode()) % BUCKETS
        counts[bucket] = counts.get(bucket, 0.0) + 1.0
    length = math.sqrt(math.fsum(value * value for value in counts.values())) or 1.0
    return {bucket: value / length for bucket, value in counts.items()}


async def probabilities(embedder: Embedder, text: str, wanted: Sequence[Head]) -> dict[str, float]:
    """By category the probability of the most toxic window; 0 where the text is empty."""
    parts = windows(text)
    if not parts:
        return {head.category: 0.0 for head in wanted}
    vectors = await embedder.embed([_fitting(embedder, part) for part in parts], "passage")
    sparse = [lexical(part) for part in parts]
    return {
        head.category: max(_probability(head, vector, words) for vector, words in zip(vectors, sparse, strict=True))
        for head in wanted
    }


def _probability(head: Head, vector: NDArray[np.float32], words: Mapping[int, float]) -> float:
    at = head.bias + math.fsum(float(v) * w for v, w in zip(vector, head.dense, strict=True))
    at += math.fsum(value * head.words[bucket] for bucket, value in words.items())
    return 1 / (1 + math.exp(-max(-40.0, min(40.0, at))))


def _fitting(embedder: Embedder, text: str) -> str:
    most = max(8, embedder.max_tokens - 16)
    while (tokens := embedder.count_tokens(text)) > most:
        text = text[: max(1, min(len(text) - 1, len(text) * most // tokens))]
    return text
