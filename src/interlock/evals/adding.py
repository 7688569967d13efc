"""Add cases to a suite's files: a file beside the suite, named in it; everything else stays as people wrote it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml

from interlock.core.errors import InterlockError, InvalidInput
from interlock.evals.suite import Suite, case_digest, read_suite
from interlock.evals.types import Case

__all__ = ["Added", "Shape", "add_cases", "stem_of"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a suite needs for these cases, and what one is made of where there is none."""

    kind: str
    """Part of the cases' file name: ``STEM.KIND.jsonl``."""
    description: str
    metrics: Sequence[str]
    gate: Mapping[str, Any] = field(default_factory=dict)  # Any: as a suite's file has it


@dataclass(frozen=True, slots=True)
class Added:
    """What was added to a suite."""

    suite: Suite
    cases_file: Path
    added: tuple[str, ...]
    known: int
    """Cases that the suite had already."""


def stem_of(place: Path) -> str:
    """``handbook`` of ``handbook.suite.yaml``. Raises: InvalidInput: no YAML file."""
    if place.suffix.lower() not in {".yaml", ".yml"}:
        raise InvalidInput("a suite is a YAML file", param="suite", hint="--suite suite.yaml")
    return place.name.removesuffix(place.suffix).removesuffix(".suite")


def add_cases(cases: Sequence[Case], place: Path, shape: Shape) -> Added:
    """Add cases to the suite `place`, which is made where there is none; both files are as before when it fails.

    A case that the suite has already, word for word, is left out; another one with its id gets an id of its own.

    Raises: InvalidInput, NotFound.
    """
    beside = place.with_name(f"{stem_of(place)}.{shape.kind}.jsonl")
    before = place.read_bytes() if place.exists() else None
    old = beside.read_bytes() if beside.exists() else None
    known = {case.id: case_digest(case) for case in read_suite(place).cases} if before is not None else {}
    new: list[Case] = []
    for case in cases:
        digest = case_digest(case)
        if digest in known.values():
            continue
        if case.id in known:
            case = case.model_copy(update={"id": f"{case.id}~{digest.removeprefix('sha256:')[:8]}"})
            if case.id in known:
                continue
        known[case.id] = digest
        new.append(case)
    try:
        if new:
            _write(place, beside, new, old or b"", shape)
        suite = read_suite(place)
    except InterlockError:
        _restore(place, before)
        _restore(beside, old)
        raise
    return Added(suite, beside, tuple(case.id for case in new), len(cases) - len(new))


def _write(place: Path, beside: Path, new: Sequence[Case], old: bytes, shape: Shape) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    rows = [case.model_dump(mode="json", by_alias=True, exclude_defaults=True) for case in new]
    text = _naming(place.read_text("utf-8"), beside.name, shape) if place.exists() else _new(place, beside, shape)
    beside.write_bytes(old + b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    place.write_text(text, "utf-8")


def _restore(place: Path, content: bytes | None) -> None:
    if content is None:
        place.unlink(missing_ok=True)
    else:
        place.write_bytes(content)


def _new(place: Path, cases: Path, shape: Shape) -> str:
    name = re.sub(r"[^a-z0-9_.-]+", "-", stem_of(place).casefold()).strip("-._") or shape.kind
    spec: dict[str, Any] = {  # Any: as a suite's file has it
        "suite": name[:64],
        "description": shape.description,
        "cases": [{"file": cases.name}],
        "metrics": list(shape.metrics),
    }
    if shape.gate:
        spec["gate"] = dict(shape.gate)
    return yaml.safe_dump(spec, sort_keys=False, allow_unicode=True)


def _naming(text: str, cases: str, shape: Shape) -> str:
    """The suite's file with the cases and the metrics in it."""
    spec = yaml.safe_load(text)
    files = [each.get("file") for each in spec.get("cases") or () if isinstance(each, dict)]
    if cases not in files:
        text = _listed(text, "cases", f"{{file: {cases}}}")
    measured = {each if isinstance(each, str) else each.get("metric") for each in spec.get("metrics") or ()}
    for metric in shape.metrics:
        if metric not in measured:
            text = _listed(text, "metrics", metric)
    return text


def _listed(text: str, field_name: str, entry: str) -> str:
    """The list of the outermost level with one entry more, in block or in flow style."""
    flow = re.search(rf"^{field_name}:[ \t]*\[[ \t]*", text, re.MULTILINE)
    if flow:
        return f"{text[: flow.end()]}{entry}, {text[flow.end() :]}"
    block = re.search(rf"^{field_name}:[ \t]*(?:#.*)?\n((?:[ \t]*(?:#.*)?\n)*)([ \t]*)-", text, re.MULTILINE)
    if block is None:
        raise InvalidInput(
            f"the suite's {field_name} are not written as a list", param=field_name, hint=f"add {entry} by hand"
        )
    at = block.start(2)
    return f"{text[:at]}{block.group(2)}- {entry}\n{text[at:]}"
