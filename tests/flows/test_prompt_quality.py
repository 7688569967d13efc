"""What versions of a prompt have shown, from evaluations and from requests, as people ask for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlock.testing.workspaces import write_workspace

from .commands import Run, runner

SCRIPT = [{"match_system": "rude", "reply": "no"}, {"match": "7$", "fail_status": 400}, {"reply": "It is {question}"}]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    provider = {"kind": "scripted", "script": SCRIPT}
    price = {"input_per_million": "1", "output_per_million": "10"}
    root = write_workspace(
        tmp_path / "w",
        settings={
            "gateway": {"providers": {"scripted": provider}, "detect": False, "breaker": {"failures": 1000}},
            "cost": {"prices": {"scripted/m": price}},
        },
        apps={name: {"route": {"targets": ["scripted/m"], "retries": 0}} for name in ("helper", "other")},
        prompt="Be kind.",
    )
    suite(root, 40)
    return root


def suite(at: Path, count: int, name: str = "kindness") -> Path:
    cases = [{"id": f"c{n}", "input": f"word {n}", "expected": f"It is word {n}"} for n in range(count)]
    file = at / f"{name}.yaml"
    file.write_text(json.dumps({"suite": name, "cases": cases, "metrics": ["exact"], "floors": False}))
    return file


def evaluated(run: Run, at: Path, target: str = "app/helper", file: str = "kindness.yaml") -> None:
    assert run(at, "eval", "run", at / file, "--target", target, "-q", "--no-kept").code == 0


def versions(run: Run, at: Path, *more: str) -> list[dict[str, Any]]:
    done = run(at, "prompt", "quality", "helper", "--json", *more)
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = done.json["versions"]
    return found


def test_each_version_has_its_own_figures_with_intervals_and_counts(at: Path, run: Run) -> None:
    run(at, "prompt", "record", "helper", "--why", "kind")
    evaluated(run, at)
    (at / "apps" / "helper" / "prompt.md").write_text("Be rude.")
    evaluated(run, at)
    evaluated(run, at, "app/other")
    rude, kind = versions(run, at)
    assert rude["files"] and not kind["files"] and kind["rationale"] == "kind"
    means = {each["digest"]: {one["metric"]: one for one in each["evaluations"]} for each in (rude, kind)}
    assert means[rude["digest"]]["exact"]["mean"] == 0.0
    exact = means[kind["digest"]]["exact"]
    assert exact["mean"] == pytest.approx(0.9) and exact["cases"] == 40
    assert exact["interval"][0] < 0.9 < exact["interval"][1]
    used = kind["requests"]
    assert used["count"] == 40
    assert (used["errors"]["mean"], used["errors"]["requests"]) == (0.1, 40)
    assert used["errors"]["interval"][0] < 0.1 < used["errors"]["interval"][1]
    assert used["cost_nano"]["interval"][0] <= used["cost_nano"]["mean"] <= used["cost_nano"]["interval"][1]
    assert rude["requests"]["cost_nano"]["mean"] < used["cost_nano"]["mean"], "no is shorter"
    shown = run(at, "prompt", "quality", "helper").out
    assert "0.900 (" in shown and "0.100 (" in shown and "(files)" in shown


def test_runs_on_other_cases_and_of_other_apps_are_not_beside_each_other(at: Path, run: Run) -> None:
    evaluated(run, at)
    frozen = run(at, "release", "build", "--app", "helper", "--json").json["id"]
    (at / "apps" / "helper" / "prompt.md").write_text("Be rude.")
    suite(at, 10)
    evaluated(run, at)
    found = run(at, "prompt", "quality", "helper", "--json").json
    rude, kind = found["versions"]
    assert [one["cases"] for one in rude["evaluations"] if one["metric"] == "exact"] == [10]
    assert kind["evaluations"] == [], "its run was on other cases"
    assert found["notes"] == ["1 runs on other cases than their suites have now are left out"]
    evaluated(run, at, f"release:helper:{frozen}")
    _, kind = versions(run, at)
    assert [one["cases"] for one in kind["evaluations"] if one["metric"] == "exact"] == [10]
    old = run(at, "prompt", "quality", "helper", "--days", "0.0000001", "--json").json["versions"]
    assert [each["requests"] for each in old] == [None, None]


def test_a_prompt_that_nobody_asked_says_how_to_ask(at: Path, run: Run) -> None:
    done = run(at, "prompt", "quality", "helper")
    assert done.code == 0 and "interlock eval run" in done.out
    assert versions(run, at)[0]["requests"] is None
    assert run(at, "prompt", "quality", "nobody").code == 3
