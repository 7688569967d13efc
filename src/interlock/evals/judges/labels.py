"""What people said: answers with a label, or pairs with the better one. Read from our own lines and public forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from interlock.core.canonical import digest_json
from interlock.core.errors import InvalidInput, NotFound
from interlock.evals.formats._lines import json_lines

__all__ = ["LabelledAnswer", "LabelledPair", "labels_digest", "read_labels"]

Better = Literal["first", "second", "tie"]


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two answers to a question, and what each rater thinks of them."""

    id: str
    question: str
    first: str
    second: str
    raters: tuple[Better, ...]
    group: str = ""
    """Pairs of one question are one piece of evidence."""

    @property
    def label(self) -> Better:
        """What most say; a tie where they are divided."""
        counts = {each: self.raters.count(each) for each in ("first", "second", "tie")}
        most = max(counts.values())
        named = [each for each, count in counts.items() if count == most]
        return named[0] if len(named) == 1 else "tie"  # type: ignore[return-value]  # keys of the mapping above


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """An answer and what people gave it, in [0, 1]."""

    id: str
    question: str
    answer: str
    raters: tuple[float, ...]
    reference: str | None = None
    context: tuple[str, ...] = ()
    group: str = ""

    @property
    def label(self) -> float:
        """The middle of the raters."""
        ordered = sorted(self.raters)
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


_SIDES: Mapping[object, Better] = {
    1: "first",
    2: "second",
    0: "tie",
    "1": "first",
    "2": "second",
    "a": "first",
    "b": "second",
    "tie": "tie",
    "first": "first",
    "second": "second",
}


def read_labels(path: Path) -> list[LabelledPair | LabelledAnswer]:
    """Labels of a JSONL file, all of one sort.

    Our own lines: ``{"id", "input", "a", "b", "label": "a" | "b" | "tie"}`` for pairs, ``{"id", "input", "output",
    "label": 0..1, "expected"?, "context"?}`` for answers; ``raters`` may stand for ``label`` with a list of them, and
    ``group`` may name what belongs together. Besides: LLMBar (``output_1``, ``output_2``, ``label``) and PandaLM
    (``response1``, ``response2``, ``annotator1`` …).

    Raises: NotFound; InvalidInput naming line and field.
    """
    if not path.is_file():
        raise NotFound(f"there is no file of labels {path.name!r}", param="labels")
    found: list[LabelledPair | LabelledAnswer] = []
    for place, fields in json_lines(path):
        try:
            found.append(_label(fields, place))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{place} of {path.name!r} is no label: {_told(error)}", param=place) from error
    if not found:
        raise InvalidInput(f"{path.name!r} holds no labels", param="labels")
    if len({type(each) for each in found}) > 1:
        raise InvalidInput(f"{path.name!r} holds pairs and single answers: one sort a file", param="labels")
    ids = [each.id for each in found]
    if len(set(ids)) != len(ids):
        raise InvalidInput(f"{path.name!r} has ids that are there twice", param="id")
    return found


def _told(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def _label(fields: Mapping[str, Any], place: str) -> LabelledPair | LabelledAnswer:
    name = str(fields.get("id") or place)
    if "response1" in fields:
        question = "\n\n".join(filter(None, (fields["instruction"], fields.get("input"))))
        raters = [fields[key] for key in sorted(fields) if key.startswith("annotator")]
        # Its tables were typed by a machine: an answer "True" became a truth value there.
        first, second = str(fields["response1"]), str(fields["response2"])
        return LabelledPair(name, str(question), first, second, _sides(raters), str(fields["idx"]))
    if "output_1" in fields:
        return LabelledPair(name, fields["input"], fields["output_1"], fields["output_2"], _sides([fields["label"]]))
    raters = fields["raters"] if "raters" in fields else [fields["label"]]
    group = str(fields.get("group") or "")
    if "a" in fields:
        return LabelledPair(name, _text(fields, "input"), _text(fields, "a"), _text(fields, "b"), _sides(raters), group)
    values = tuple(float(rater) for rater in raters)
    if not values or any(not 0 <= value <= 1 for value in values):
        raise ValueError("labels of answers lie between 0 and 1")
    return LabelledAnswer(
        name,
        _text(fields, "input"),
        _text(fields, "output"),
        values,
        fields.get("expected"),
        tuple(fields.get("context") or ()),
        group,
    )


def _text(fields: Mapping[str, Any], key: str) -> str:
    if not isinstance(fields[key], str):
        raise TypeError(f"{key!r} is text")
    return str(fields[key])


def _sides(raters: list[Any]) -> tuple[Better, ...]:
    sides = [_SIDES.get(rater.lower() if isinstance(rater, str) else rater) for rater in raters]
    if not sides or None in sides:
        raise ValueError("a label is a, b or tie")
    return tuple(side for side in sides if side is not None)


def labels_digest(labels: list[LabelledPair | LabelledAnswer]) -> str:
    """Of all that was labelled and how."""

    def told(each: LabelledPair | LabelledAnswer) -> Iterator[object]:
        yield from (each.id, each.question, list(each.raters), each.group)
        if isinstance(each, LabelledPair):
            yield from (each.first, each.second)
        else:
            yield from (each.answer, each.reference, list(each.context))

    return digest_json([list(told(each)) for each in labels])
