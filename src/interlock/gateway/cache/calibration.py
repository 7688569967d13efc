"""From labelled pairs of questions to a threshold: how near two questions must be to share an answer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from interlock.core.clock import now
from interlock.core.errors import InvalidInput
from interlock.core.ports import Embedder
from interlock.gateway.cache.guards import difference
from interlock.stats.intervals import clopper_pearson, wilson

__all__ = [
    "SEMANTIC_CALIBRATION",
    "Calibration",
    "LabelledPair",
    "calibrate",
    "read_calibration",
    "read_pairs",
    "save_calibration",
]

SEMANTIC_CALIBRATION = "semantic-cache.json"
"""Name of the record in the data folder."""
_MOST_PAIRS = 100_000


class LabelledPair(NamedTuple):
    """Two questions, and whether one answer serves both."""

    a: str
    b: str
    same: bool


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold and what it was worth on the pairs that it was chosen on."""

    embedder: str
    """Identity of the embedding space."""
    threshold: float
    """Cosine similarity from which two questions share an answer, when the guards agree."""
    precision: float
    recall: float
    precision_low: float
    """Lower end of the exact (Clopper-Pearson) 95 % interval."""
    recall_low: float
    recall_high: float
    """Wilson's 95 % interval."""
    hits: int
    wrong: int
    """Pairs at or above the threshold, and those of them that are not the same."""
    pairs: int
    positives: int
    guarded: int
    """Different pairs that the guards refused whatever their similarity."""
    wanted_precision: float
    pairs_digest: str
    at: str


def read_pairs(path: Path) -> list[LabelledPair]:
    """JSON lines ``{"a": …, "b": …, "same": true}``. Raises: InvalidInput naming the line."""
    pairs: list[LabelledPair] = []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path.name!r} cannot be read as UTF-8 text", param="pairs") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            a, b, same = row["a"], row["b"], row["same"]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"line {number} of {path.name!r} is no labelled pair",
                param="pairs",
                hint='one object a line: {"a": "…", "b": "…", "same": true}',
            ) from error
        if not (isinstance(a, str) and isinstance(b, str) and isinstance(same, bool) and a and b):
            raise InvalidInput(
                f"line {number} of {path.name!r}: a and b are texts, same is true or false", param="pairs"
            )
        pairs.append(LabelledPair(a, b, same))
        if len(pairs) > _MOST_PAIRS:
            raise InvalidInput(f"{path.name!r} has more than {_MOST_PAIRS:,} pairs", param="pairs")
    return pairs


async def calibrate(pairs: Sequence[LabelledPair], embedder: Embedder, *, precision: float) -> Calibration:
    """The lowest threshold whose precision on `pairs` is at least `precision`.

    Raises: InvalidInput: too few pairs of a kind, or no threshold is good enough.
    """
    positives = sum(pair.same for pair in pairs)
    if positives < 20 or len(pairs) - positives < 20:
        raise InvalidInput(
            f"{positives} same and {len(pairs) - positives} different pairs are too few",
            param="pairs",
            hint="label at least 20 of each; near misses (another number, name, negation) teach the most",
        )
    texts = sorted({text for pair in pairs for text in (pair.a, pair.b)})
    vectors = dict(zip(texts, await embedder.embed(texts, "query"), strict=True))
    scored: list[tuple[float, bool]] = []
    guarded = 0
    for pair in pairs:
        if difference(pair.a, pair.b):
            guarded += not pair.same
        else:
            scored.append((float(vectors[pair.a] @ vectors[pair.b]), pair.same))
    chosen = _threshold(scored, precision)
    if chosen is None:
        raise InvalidInput(
            f"no threshold reaches a precision of {precision} on these pairs",
            param="precision",
            hint="ask for less, or do without the semantic cache: exact answers are still kept",
        )
    kept = [same for score, same in scored if score >= chosen]
    right = sum(kept)
    recall = wilson(right, positives)
    content = "\n".join(json.dumps(pair, ensure_ascii=False) for pair in pairs)
    return Calibration(
        embedder=embedder.id,
        threshold=chosen,
        precision=right / len(kept),
        recall=right / positives,
        precision_low=clopper_pearson(right, len(kept)).low,
        recall_low=recall.low,
        recall_high=recall.high,
        hits=len(kept),
        wrong=len(kept) - right,
        pairs=len(pairs),
        positives=positives,
        guarded=guarded,
        wanted_precision=precision,
        pairs_digest="sha256:" + hashlib.sha256(content.encode()).hexdigest(),
        at=now().isoformat(timespec="seconds"),
    )


def _threshold(scored: Sequence[tuple[float, bool]], precision: float) -> float | None:
    """Lowest score from which on the share of same pairs is at least `precision`."""
    best = None
    right = total = 0
    ordered = sorted(scored, key=lambda row: -row[0])
    for position, (score, same) in enumerate(ordered):
        right, total = right + same, total + 1
        # Pairs of one score come together: a threshold cannot part them.
        if position + 1 < len(ordered) and ordered[position + 1][0] == score:
            continue
        if right and right / total >= precision:
            best = score
    return best


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Record it, so that routes may switch the semantic cache on."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({"format": 1, **asdict(calibration)}, indent=2), "utf-8")
    os.replace(temporary, path)


def read_calibration(path: Path) -> Calibration | None:
    """What was recorded, or None. Raises: InvalidInput: it is damaged."""
    try:
        raw = json.loads(path.read_text("utf-8"))
        raw.pop("format")
        return Calibration(**{name: raw[name] for name in Calibration.__dataclass_fields__})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError) as error:
        raise InvalidInput(
            f"{path.name!r} in the data folder is damaged", hint="record it again: interlock cache calibrate"
        ) from error
