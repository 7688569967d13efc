"""What is varied, and what was found."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from interlock.core.errors import InvalidInput, NotFound
from interlock.core.yaml_text import YamlFault, read_yaml
from interlock.evals.comparing import Cell
from interlock.stats.intervals import Interval

__all__ = [
    "AS_IT_IS",
    "MOST_VARIANTS",
    "Advice",
    "Contrast",
    "Finding",
    "Matrix",
    "MatrixSpec",
    "Measured",
    "Question",
    "Variant",
    "read_matrix",
    "variants_of",
]

Question = Literal["documents", "retrieval", "examples", "model", "tuning"]
AS_IT_IS = "as it is"
"""The app as its files say: the others are compared with it."""
MOST_VARIANTS = 64
_PARTS = ("model", "prompt", "knowledge", "answer", "route", "guardrails", "app")


class MatrixSpec(BaseModel):
    """A file of variants."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    app: str = Field(min_length=1, description="the app that is varied")
    suite: str = Field(min_length=1, description="what measures it; beside this file")
    quality: str | None = Field(default=None, description="metric of quality; else the first of the suite's gate")
    axes: dict[str, list[str] | dict[str, JsonValue]] = Field(
        min_length=1,
        description="what is varied: model, prompt, or a field of app.yaml (knowledge, answer, route, guardrails), or"
        " app for several fields at once; each with names, or with labels and what the field then says",
    )


@dataclass(frozen=True, slots=True)
class Variant:
    """One way for the app to be."""

    label: str
    settings: Mapping[str, str]
    """Axis to the label on it; empty of the app as it is."""
    changes: Mapping[str, Any]  # Any: JSON values
    """To the app's file, as `AppSource.vary` takes them."""
    oracle: bool = False
    """Given, for each case, the documents that hold its answer and no others: what retrieval could bring at best. No
    way for an app to be, so that it is never recommended, frozen, or on the frontier."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found of a variant."""

    variant: Variant
    release: str
    """Digest of the release that it is; frozen or not."""
    run: str
    """The run of the suite."""
    failed: int
    """Executions that the app failed."""
    cost_nano: int
    """Of the whole run."""
    frontier: float | None
    """How often it stands on the frontier when cases are drawn again; None where that cannot be told."""
    error: str = ""
    """Why it could not be measured; then nothing else is known."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two variants on the same cases."""

    new: str
    """Label."""
    old: str
    metric: str
    value: float | None
    """Mean difference, new less old, in the metric's own direction; None without a case in both."""
    interval: Interval | None
    """95 %, two-sided."""
    verdict: Literal["better", "as good", "worse", "cannot tell"]
    """`as good`: shown not to be worse by the margin; `worse`: shown to be worse by it."""
    more: int | None
    """Further cases that would likely settle it; None when it is settled, or when nothing would."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One question of a decision, and what the measurements say to it."""

    question: Question
    answer: Literal["yes", "no", "cannot tell", "not measured"]
    said: str
    contrasts: tuple[Contrast, ...] = ()


@dataclass(frozen=True, slots=True)
class Advice:
    """Which variant to take, and why."""

    recommended: str
    """Label."""
    why: tuple[str, ...]
    findings: tuple[Finding, ...]
    margin: float
    """Of quality: what differs by less counts as equal."""
    usd_per_thousand: Mapping[str, float]
    """Label to what a thousand answers cost; only of variants whose cost is known."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Variants beside each other."""

    id: str
    key: str
    """The same work has the same key: a second command goes on with what the first did not end."""
    app: str
    suite: str
    suite_digest: str
    quality: str
    dimensions: tuple[str, ...]
    """Of the frontier: the quality, cost and latency where they are known."""
    began_at: datetime
    ended_at: datetime | None
    """None while it goes on, or where it was ended before its time."""
    ended: Literal["running", "finished", "budget"]
    variants: tuple[Measured, ...]
    cells: tuple[Cell, ...] = ()
    frontier: tuple[str, ...] = ()
    """Labels of the variants that no other equals in all dimensions and beats in one, by their means."""
    notes: tuple[str, ...] = ()
    advice: Advice | None = None
    """Where advice was asked for."""


def read_matrix(path: Path) -> MatrixSpec:
    """Read a file of variants. Raises: NotFound, InvalidInput naming the field."""
    try:
        given = read_yaml(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path.name!r}", param="file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path.name!r} cannot be read as UTF-8 text", param="file") from error
    except YamlFault as error:
        raise InvalidInput(f"{path.name!r} is not YAML", param="file") from error
    try:
        return MatrixSpec.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "file"
        raise InvalidInput(f"{path.name!r}: {field}: {first['msg']}", param=field) from error


def variants_of(axes: Mapping[str, Sequence[str] | Mapping[str, JsonValue]]) -> list[Variant]:
    """Every combination, in order, after the app as it is.

    Raises: InvalidInput: an unknown axis, an empty one, too many combinations.
    """
    columns: list[list[tuple[str, str, dict[str, Any]]]] = []
    for axis, given in axes.items():
        if axis not in _PARTS:
            raise InvalidInput(f"{axis!r} cannot be varied", param=f"axes.{axis}", hint=f"one of {', '.join(_PARTS)}")
        named = dict(given) if isinstance(given, Mapping) else {each: each for each in given}
        if not named:
            raise InvalidInput(f"the axis {axis!r} has nothing on it", param=f"axes.{axis}")
        columns.append([(axis, label, _changes(axis, label, value)) for label, value in named.items()])
    many = 1
    for column in columns:
        many *= len(column)
    if many > MOST_VARIANTS:
        raise InvalidInput(
            f"the axes make {many:,} variants; {MOST_VARIANTS} at most", param="axes", hint="vary less at a time"
        )
    found = [Variant(AS_IT_IS, {}, {})]
    for chosen in itertools.product(*columns):
        settings = {axis: label for axis, label, _ in chosen}
        changes: dict[str, Any] = {}
        for _, _, each in chosen:
            changes = _both(changes, each)
        found.append(Variant(" · ".join(settings.values()), settings, changes))
    return found


def _changes(axis: str, label: str, value: JsonValue) -> dict[str, Any]:
    at = f"axes.{axis}.{label}"
    if axis == "model":
        targets = [value] if isinstance(value, str) else value
        if not isinstance(targets, list) or not targets or not all(isinstance(each, str) for each in targets):
            raise InvalidInput(f"{at}: a model is 'provider/model', or a list of them", param=at)
        return {"route": {"targets": targets}}
    if axis == "prompt":
        if not isinstance(value, str):
            raise InvalidInput(f"{at}: a prompt is a file beside app.yaml", param=at)
        return {"prompt": value}
    if axis == "app":
        if not isinstance(value, dict):
            raise InvalidInput(f"{at}: fields of app.yaml, as {{prompt: short.md}}", param=at)
        return value
    if isinstance(value, str) and axis != "guardrails":
        raise InvalidInput(f"{at}: what {axis} says, as {{field: value}}, or null for nothing", param=at)
    return {axis: value}


def _both(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(first)
    for name, value in second.items():
        mine = found.get(name)
        found[name] = _both(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return found
