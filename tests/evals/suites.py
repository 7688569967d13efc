"""Suites and targets for tests, written where the test says."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from interlock.evals.suite import Suite, read_suite
from interlock.evals.types import Case, Output

Answer = Callable[[Case, int], Output | Awaitable[Output]]


def write_suite(folder: Path, rows: Sequence[Mapping[str, Any]], **fields: Any) -> Path:
    """A suite file whose cases stand in a file beside it."""
    (folder / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in rows), "utf-8")
    spec = {"suite": "test", "cases": [{"file": "cases.jsonl"}], "metrics": ["exact"], **fields}
    place = folder / "suite.yaml"
    place.write_text(yaml.safe_dump(spec), "utf-8")
    return place


def suite_of(folder: Path, rows: Sequence[Mapping[str, Any]], **fields: Any) -> Suite:
    """The same, read."""
    return read_suite(write_suite(folder, rows, **fields))


def questions(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Cases whose right answer is their number."""
    return [{"id": f"c{n}", "input": f"say {n}", "expected": str(n), **fields} for n in range(count)]


class Answering:
    """A target that answers by a function."""

    release_id = ""

    def __init__(self, answer: Callable[[Case, int], Any], identity: Mapping[str, object] | None = None) -> None:
        self.name = "answering"
        self.identity: Mapping[str, object] = identity or {}
        self._answer = answer
        self.asked: list[tuple[str, int]] = []

    async def run(self, case: Case, repeat: int) -> Output:
        self.asked.append((case.id, repeat))
        output = self._answer(case, repeat)
        if isinstance(output, Output):
            return output
        if isinstance(output, str):
            return Output(output)
        made = await output
        assert isinstance(made, Output)
        return made

    async def close(self) -> None: ...


def right(case: Case, repeat: int) -> str:
    """What `questions` ask for."""
    return case.question.removeprefix("say ")
