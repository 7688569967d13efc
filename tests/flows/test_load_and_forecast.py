"""What a release bears and what it will cost becomes evidence of it; what little was measured is not enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlock.testing.workspaces import write_workspace

from .commands import Run, runner


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def workspace(at: Path, script: list[dict[str, Any]], price: str = "1") -> Path:
    prices = {"model/m": {"input_per_million": price, "output_per_million": price}}
    providers = {"model": {"kind": "scripted", "script": script}}
    write_workspace(
        at,
        settings={"gateway": {"providers": providers, "detect": False}, "cost": {"prices": prices} if price else {}},
        apps={"desk": {"route": {"targets": ["model/m"], "retries": 0}}},
        prompt="Be kind.",
    )
    cases = [{"id": f"c{n}", "input": f"word {'long ' * (n % 7)}{n}", "expected": "x"} for n in range(30)]
    (at / "suite.yaml").write_text(json.dumps({"suite": "words", "cases": cases, "metrics": ["exact"]}))
    return at


def load(run: Run, at: Path, *more: object) -> Any:
    given = ("--suite", at / "suite.yaml", "--people", "4", "--seconds", "1", "-q", "--json", *more)
    return run(at, "load", "--target", "app/desk", *given)


def evidence(run: Run, at: Path) -> Any:
    built = run(at, "release", "build", "--app", "desk", "--json").json
    return run(at, "release", "show", built["id"], "--app", "desk", "--json").json["evidence"]


@pytest.mark.timeout(120)
def test_an_app_that_bears_it_passes_and_its_release_knows(tmp_path: Path, run: Run) -> None:
    at = workspace(tmp_path, [{"reply": "It is so."}])
    done = load(run, at, "--within", "5", "--share", "0.5", "--max-errors", "0.5")
    assert done.code == 0, done.out + done.err
    found = done.json
    assert found["requests"] >= 8
    assert (found["failed"], found["in_time"]) == (0, found["requests"])
    assert found["p50_s"] <= found["p95_s"] <= found["p99_s"]
    assert found["cost_nano"] > 0
    (known,) = evidence(run, at)
    assert (known["kind"], known["name"], known["verdict"]) == ("load", "4 people", "pass")
    assert known["summary"]["requests"] == found["requests"]


@pytest.mark.timeout(120)
def test_one_that_fails_or_is_late_does_not(tmp_path: Path, run: Run) -> None:
    at = workspace(tmp_path, [{"match": "long long", "fail_status": 500}, {"reply": "It is so."}])
    failing = load(run, at, "--within", "30")
    assert failing.code == 5
    assert failing.json["errors"]
    assert "requests fail" in " ".join(failing.json["reasons"])
    late = load(run, at, "--within", "0.000001", "--max-errors", "1")
    assert late.code == 5
    assert late.json["in_time"] == 0


@pytest.mark.timeout(120)
def test_a_few_requests_show_nothing_and_a_budget_ends_it(tmp_path: Path, run: Run) -> None:
    at = workspace(tmp_path, [{"reply": "It is so."}])
    few = load(run, at, "--people", "1", "--max-cost", "0.0000001", "--within", "30", "--share", "0.999")
    assert few.code == 6
    assert few.json["requests"] < 30
    assert "is not shown" in few.json["reasons"][0]
    assert run(at, "load", "--target", "model:model/m", "--suite", at / "suite.yaml", "-q").code == 1
    assert run(at, "load", "--target", "app/none", "--suite", at / "suite.yaml", "-q").code == 3


def measured(run: Run, at: Path) -> None:
    assert run(at, "eval", "run", at / "suite.yaml", "--target", "app/desk", "-q").code == 0


def test_a_forecast_is_the_mean_cost_times_requests_with_its_interval(tmp_path: Path, run: Run) -> None:
    at = workspace(tmp_path, [{"reply": "It is so."}])
    measured(run, at)
    found = run(at, "forecast", "last", "--requests", "1000000", "--json").json
    assert found["usd"] == pytest.approx(found["usd_each"] * 1e6)
    low, high = found["interval"]
    assert low < found["usd"] < high
    assert found["verdict"] is None
    assert evidence(run, at) == []
    for budget, code, verdict in (
        (high * 2, 0, "pass"),
        (low / 2, 5, "fail"),
        (found["usd"], 6, "not_enough_evidence"),
    ):
        done = run(at, "forecast", "last", "--requests", "1000000", "--budget", f"{budget}", "--json")
        assert (done.code, done.json["verdict"]) == (code, verdict)
    kinds = {each["kind"] for each in evidence(run, at)}
    assert kinds == {"cost_forecast"}


def test_few_cases_are_no_forecast(tmp_path: Path, run: Run) -> None:
    at = workspace(tmp_path, [{"reply": "It is so."}])
    suite = json.loads((at / "suite.yaml").read_text())
    (at / "suite.yaml").write_text(json.dumps({**suite, "cases": suite["cases"][:5]}))
    measured(run, at)
    done = run(at, "forecast", "last", "--requests", "10", "--budget", "5")
    assert done.code == 1
    assert "5 cases" in done.err and "10 are needed" in done.err
    assert run(at, "forecast", "ev_nothing", "--requests", "10").code == 3
    assert evidence(run, at) == []
