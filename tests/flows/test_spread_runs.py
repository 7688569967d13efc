"""Cases asked in worker processes and on Ray: the same figures, the same journal, the same errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlock.testing.workspaces import write_workspace

from .commands import Run, runner

DESK = """
import os

def answer(case):
    return case["input"] if case["input"] != "word 7" else "no"

def pid(case):
    return str(os.getpid())
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    providers = {"scripted": {"kind": "scripted", "script": [{"reply": "{question}"}]}}
    write_workspace(
        tmp_path,
        settings={"gateway": {"providers": providers, "detect": False}},
        apps={"helper": {"route": {"targets": ["scripted/m"], "retries": 0}}},
        prompt="Be kind.",
    )
    (tmp_path / "desk.py").write_text(DESK)
    cases = [{"id": f"c{n}", "input": f"word {n}", "expected": f"word {n}"} for n in range(60)]
    suite = {"suite": "words", "cases": cases, "metrics": ["exact"], "run": {"concurrency": 8}}
    suite["gate"] = {"rules": [{"metric": "exact", "at_least": 0.5}]}
    (tmp_path / "suite.yaml").write_text(json.dumps(suite))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def asked(run: Run, at: Path, target: str, *more: str, code: int = 0) -> Any:
    done = run(at, "eval", "run", at / "suite.yaml", "--target", target, "-q", "--json", *more)
    assert done.code == code, done.out + done.err
    return done.json


def rows(at: Path, run_id: str) -> list[Any]:
    place = at / ".interlock" / "evaluations" / "runs" / run_id / "rows.jsonl"
    return [json.loads(line) for line in place.read_text().splitlines()]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_figures_are_the_same_wherever_cases_are_asked(at: Path, run: Run, executor: str) -> None:
    here = asked(run, at, "python:desk:answer")
    there = asked(run, at, "python:desk:answer", "--executor", executor, "--workers", "2", "--fresh")
    exact = [next(metric for metric in each["metrics"] if metric["name"] == "exact") for each in (here, there)]
    assert exact[0] == exact[1]
    assert there["executions"] == 60
    assert {row["case"] for row in rows(at, there["id"])} == {f"c{n}" for n in range(60)}
    spread = asked(run, at, "python:desk:pid", "--executor", executor, "--workers", "2", code=5)
    said = {row["output"]["text"] for row in rows(at, spread["id"])}
    assert len(said) == 2


@pytest.mark.timeout(180)
def test_an_app_is_asked_by_workers_and_its_release_gets_the_evidence(at: Path, run: Run) -> None:
    found = asked(run, at, "app/helper", "--executor", "processes", "--workers", "2")
    assert found["gate"]["verdict"] == "pass"
    built = run(at, "release", "build", "--app", "helper", "--json").json
    shown = run(at, "release", "show", built["id"], "--app", "helper", "--json").json
    assert [each["name"] for each in shown["evidence"]] == ["words"]


@pytest.mark.timeout(180)
def test_what_was_asked_before_a_run_ended_is_not_asked_again_by_workers(at: Path, run: Run) -> None:
    first = asked(run, at, "python:desk:answer")
    folder = at / ".interlock" / "evaluations" / "runs" / first["id"]
    (folder / "report.json").unlink()
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(lines[:25]))
    again = asked(run, at, "python:desk:answer", "--executor", "processes", "--workers", "2")
    assert again["id"] == first["id"]
    assert len(rows(at, first["id"])) == 60


@pytest.mark.timeout(180)
def test_a_target_that_cannot_be_opened_is_said_as_by_this_process(at: Path, run: Run) -> None:
    done = run(at, "eval", "run", at / "suite.yaml", "--target", "python:desk:nothing", "--executor", "processes", "-q")
    assert done.code == 3
    assert "nothing" in done.err
