"""A model goes out of use: what names it, which successor does as well, and a release with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.testing.workspaces import write_workspace

from .commands import Run, runner

RIGHT, WRONG = {"reply": "It is {question}"}, {"reply": "Perhaps"}
OLD = "old/m"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    scripts = {"old": [RIGHT], "good": [RIGHT], "bad": [WRONG], "gone": [{"fail_status": 400}]}
    gateway: dict[str, Any] = {
        "detect": False,
        "providers": {name: {"kind": "scripted", "script": script} for name, script in scripts.items()},
        "routes": {"spare": {"targets": ["good/m", OLD]}},
        "approvals": {OLD: {"deprecated_on": "2031-05-01"}},
    }
    apps = {
        "helper": {"route": {"targets": [OLD], "retries": 0}},
        "weighted": {"route": {"targets": ["good/m", OLD], "strategy": "weighted", "weights": {"good/m": 1, OLD: 3}}},
        "other": {"route": {"targets": ["good/m"]}},
    }
    write_workspace(tmp_path, settings={"gateway": gateway}, apps=apps, prompt="Be kind.")
    evals = tmp_path / "apps" / "helper" / "evals"
    evals.mkdir()
    cases = [{"id": f"c{n}", "input": f"word {n}", "expected": f"It is word {n}"} for n in range(60)]
    suite = {"suite": "kindness", "cases": cases, "metrics": ["exact"]}
    suite["gate"] = {"rules": [{"metric": "exact", "at_least": 0.8}]}
    (evals / "kindness.yaml").write_text(json.dumps(suite))
    return tmp_path


def migrate(run: Run, at: Path, *more: object, code: int = 0) -> Any:
    done = run(at, "migrate", OLD, "-q", "--json", *more)
    assert done.code == code, done.out + done.err
    return done.json


def test_whatever_names_the_model_is_found(at: Path, run: Run) -> None:
    built = run(at, "release", "build", "--app", "helper", "--json").json
    assert run(at, "release", "point", built["id"], "--app", "helper", "--channel", "stage").code == 0
    found = migrate(run, at)
    uses = {(use["kind"], use["name"], use["field"]) for use in found["uses"]}
    assert {
        ("app", "helper", "route.targets[0]"),
        ("channel", "helper@stage", "route.targets[0]"),
        ("app", "weighted", "route.targets[1]"),
        ("setting", "gateway.routes.spare.targets[1]", ""),
    } <= uses
    assert not any(use["name"] == "other" for use in found["uses"])
    assert found["last_day"] == "2031-05-01"
    assert found["candidates"] == []


def test_one_that_does_as_well_becomes_a_release_with_evidence_and_one_that_does_not_does_not(
    at: Path, run: Run
) -> None:
    found = migrate(run, at, "--to", "good/m", "--to", "bad/m", "--margin", "0.2", "--app", "helper")
    told = {each["successor"]: each for each in found["candidates"]}
    assert (told["good/m"]["verdict"], told["bad/m"]["verdict"]) == ("ready", "worse")
    assert told["good/m"]["gate"] == "pass"
    assert not told["bad/m"]["release"]
    shown = run(at, "release", "show", told["good/m"]["release"], "--app", "helper", "--json").json
    assert shown["values"]["route"]["targets"] == ["good/m"]
    assert [each["name"] for each in shown["evidence"]] == ["kindness"]
    assert shown["channels"] == []


def test_what_few_cases_cannot_tell_is_not_ready(at: Path, run: Run) -> None:
    found = migrate(run, at, "--to", "good/m", "--margin", "0.01", "--app", "helper", code=6)
    (told,) = found["candidates"]
    assert told["verdict"] == "not enough evidence"
    assert told["contrasts"][0]["more"] > 0
    assert "more cases" in told["said"]
    assert not told["release"]


def test_an_app_without_cases_and_a_successor_that_answers_nothing_are_told(at: Path, run: Run) -> None:
    found = migrate(run, at, "--to", "gone/m", code=6)
    told = {each["app"]: each for each in found["candidates"]}
    assert told["helper"]["verdict"] == "failed"
    assert "answered nothing" in told["helper"]["said"]
    assert told["weighted"]["verdict"] == "no suite"
    assert "apps/weighted/evals" in told["weighted"]["said"]


def test_shares_of_the_model_become_the_successors(at: Path, run: Run) -> None:
    (at / "apps" / "weighted" / "evals").mkdir()
    suite = at / "apps" / "helper" / "evals" / "kindness.yaml"
    (at / "apps" / "weighted" / "evals" / "kindness.yaml").write_text(suite.read_text())
    found = migrate(run, at, "--to", "good/m", "--margin", "0.2", "--app", "weighted", "--no-gate")
    (told,) = found["candidates"]
    shown = run(at, "release", "show", told["release"], "--app", "weighted", "--json").json
    assert shown["values"]["route"]["targets"] == ["good/m"]
    assert shown["values"]["route"]["weights"] == {"good/m": 4.0}
    assert told["gate"] is None


def test_models_that_end_are_listed_and_wrong_names_are_refused(at: Path, run: Run) -> None:
    rows = run(at, "migrate", "--json").json
    assert [(row["target"], row["deprecated_on"]) for row in rows] == [(OLD, "2031-05-01")]
    assert {"app/helper", "app/weighted", "route/spare"} == set(rows[0]["used_by"])
    assert run(at, "migrate", OLD, "--to", OLD).code == 1
    assert run(at, "migrate", "/m").code == 1
    assert run(at, "migrate", OLD, "--to", "good/m", "--app", "other").code == 3
    settings = yaml.safe_load((at / "interlock.yaml").read_text())
    del settings["gateway"]["approvals"]
    (at / "interlock.yaml").write_text(yaml.safe_dump(settings))
    assert "no model" in run(at, "migrate").out
