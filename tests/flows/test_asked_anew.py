"""What decides asks now: no answer of before, no silence and no missing value passes for a good one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.testing.workspaces import write_workspace

from .commands import Run, runner


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    providers = {"model": {"kind": "scripted", "script": [{"reply": "It is {question}"}]}}
    write_workspace(
        tmp_path,
        settings={"gateway": {"providers": providers, "detect": False}},
        apps={"helper": {"route": {"targets": ["model/m"], "retries": 0}}},
        prompt="Be kind.",
    )
    (tmp_path / "apps" / "helper" / "evals").mkdir()
    cases = [{"id": f"c{n}", "input": f"word {n}", "expected": f"It is word {n}"} for n in range(40)]
    suite = {"suite": "kindness", "cases": cases, "metrics": ["exact"]}
    suite["gate"] = {"rules": [{"metric": "exact", "at_least": 0.8}]}
    (tmp_path / "apps" / "helper" / "evals" / "kindness.yaml").write_text(json.dumps(suite))
    return tmp_path


def worsen(at: Path) -> None:
    settings: Any = yaml.safe_load((at / "interlock.yaml").read_text())
    settings["gateway"]["providers"]["model"]["script"] = [{"reply": "no"}]
    (at / "interlock.yaml").write_text(yaml.safe_dump(settings))


def test_a_provider_that_has_become_worse_in_silence_fails_the_gate(at: Path, run: Run) -> None:
    suite = at / "apps" / "helper" / "evals" / "kindness.yaml"
    asked = ("eval", "run", suite, "--target", "app/helper", "-q", "--json")
    assert run(at, *asked).code == 0
    assert run(at, "gate", "--app", "helper", "--run", "-q").code == 0
    worsen(at)
    kept = run(at, *asked)
    assert (kept.code, kept.json["kept"]) == (0, 40), "answers of the last day are taken where nothing is decided anew"
    assert run(at, "gate", "--app", "helper", "--run", "-q").code == 5
    # What the gate was answered has taken the place of the older answers.
    assert run(at, *asked).code == 5
    fresh = run(at, *asked, "--fresh")
    assert (fresh.code, fresh.json["kept"]) == (5, 0)


def test_who_says_nothing_does_not_pass_a_red_team(at: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (at / "mute.py").write_text("def answer(case):\n    return ''\n")
    monkeypatch.syspath_prepend(str(at))
    monkeypatch.chdir(at)
    done = run(at, "redteam", "run", "--target", "python:mute:answer", "--whole", "-q", "--json")
    assert done.code == 5, "nothing worked on it, and nothing works with it"
    assert done.json["total"]["worked"] == 0
    assert done.json["total"]["blocked"] == done.json["total"]["twins"]


def test_empty_answers_decline_and_have_no_groundedness_that_passes(
    at: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (at / "mute.py").write_text("def answer(case):\n    return ''\n")
    monkeypatch.syspath_prepend(str(at))
    monkeypatch.chdir(at)
    cases = [{"id": f"c{n}", "input": "?", "context": ["It is so."], "answerable": True} for n in range(60)]
    suite = {"suite": "silence", "cases": cases, "metrics": ["declines", "groundedness"]}
    for metric in ("declines", "groundedness"):
        rules = [{"metric": metric, "at_least": 0.5}]
        (at / "silence.yaml").write_text(json.dumps({**suite, "gate": {"rules": rules}}))
        done = run(at, "eval", "run", at / "silence.yaml", "--target", "python:mute:answer", "-q", "--json")
        assert done.code in {5, 6}, metric


def test_a_successor_that_a_second_rule_refuses_is_not_ready(at: Path, run: Run) -> None:
    suite = at / "apps" / "helper" / "evals" / "kindness.yaml"
    told: Any = json.loads(suite.read_text())
    told["metrics"] = ["exact", {"metric": "contains", "name": "calm", "options": {"none": ["!"]}}]
    told["gate"] = {"rules": [{"metric": "exact", "at_least": 0.1}, {"metric": "calm", "at_least": 0.5}]}
    for case in told["cases"]:
        case["accept"] = [f"{case['expected']}!"]
    suite.write_text(json.dumps(told))
    settings: Any = yaml.safe_load((at / "interlock.yaml").read_text())
    settings["gateway"]["providers"]["loud"] = {"kind": "scripted", "script": [{"reply": "It is {question}!"}]}
    (at / "interlock.yaml").write_text(yaml.safe_dump(settings))
    (at / "judges").mkdir()
    (at / "judges" / "kind.yaml").write_text("judge: kind\ncriteria: Is it kind?\nmodels: [model/m]\n")
    done = run(at, "migrate", "model/m", "--to", "loud/m", "--margin", "0.3", "-q", "--json")
    assert done.code == 6, done.out
    (found,) = done.json["candidates"]
    assert found["verdict"] == "worse"
    assert {each["metric"] for each in found["contrasts"]} == {"exact", "calm"}
    assert ("judge", "judges/kind.yaml") in {(use["kind"], use["name"]) for use in done.json["uses"]}


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_no_number_to_reckon_with_is_refused(at: Path, run: Run, value: str) -> None:
    suite = at / "apps" / "helper" / "evals" / "kindness.yaml"
    for command in (
        ("load", "--target", "app/helper", "--suite", suite, "--within", value),
        ("load", "--target", "app/helper", "--suite", suite, "--max-cost", value),
        ("forecast", "last", "--requests", value),
        ("eval", "run", suite, "--target", "app/helper", "--max-cost", value),
    ):
        done = run(at, *command)
        assert (done.code, "no number to reckon with" in done.err) == (2, True), done.err


@pytest.mark.parametrize(
    ("monitor", "code", "said"),
    [
        ("{share: 2}", 1, "monitor.share"),
        ("{sharing: 0.1}", 1, "monitor"),
        ('{nightly: [{suite: evals/kindness.yaml, at: "25:00"}]}', 1, "monitor.nightly"),
        ('{nightly: [{suite: evals/none.yaml, at: "03:00"}]}', 3, "evals/none.yaml"),
        ('{share: 0.5, nightly: [{suite: evals/kindness.yaml, at: "03:00"}]}', 0, ""),
    ],
)
def test_what_is_wrong_with_a_monitor_is_told(at: Path, run: Run, monitor: str, code: int, said: str) -> None:
    file = at / "apps" / "helper" / "app.yaml"
    file.write_text(f"{file.read_text()}\nmonitor: {monitor}\n")
    done = run(at, "monitor", "show", "helper")
    assert done.code == code, done.err
    assert said in done.err
