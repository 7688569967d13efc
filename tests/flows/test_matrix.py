"""Variants of an app are measured beside each other, as people do it on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlock.evals.matrix.types import variants_of
from interlock.testing.workspaces import write_workspace

from .commands import Run, runner

SCRIPT = [{"match_system": "rude", "reply": "no"}, {"reply": "It is {question}"}]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    providers: dict[str, Any] = {
        "scripted": {"kind": "scripted", "script": SCRIPT},
        "dear": {"kind": "scripted", "script": SCRIPT},
        "mute": {"kind": "scripted", "script": [{"fail_status": 400}]},
    }
    prices = {
        f"{name}/m": {"input_per_million": price, "output_per_million": price}
        for name, price in (("scripted", "1"), ("dear", "10"))
    }
    write_workspace(
        tmp_path,
        settings={"gateway": {"providers": providers, "detect": False}, "cost": {"prices": prices}},
        apps={"helper": {"route": {"targets": ["scripted/m"], "retries": 0}}},
        prompt="Be kind.",
    )
    (tmp_path / "apps" / "helper" / "rude.md").write_text("Be rude.")
    cases = [{"id": f"c{n}", "input": f"word {n}", "expected": f"It is word {n}"} for n in range(30)]
    (tmp_path / "suite.yaml").write_text(json.dumps({"suite": "kindness", "cases": cases, "metrics": ["exact"]}))
    return tmp_path


def compare(run: Run, at: Path, *more: str) -> Any:
    done = run(at, "compare", "--app", "helper", "--suite", at / "suite.yaml", "-q", "--json", *more)
    assert done.code == 0, done.out
    return done.json


def test_who_is_beaten_in_quality_and_cost_is_not_on_the_frontier(at: Path, run: Run) -> None:
    found = compare(
        run, at, "--model", "scripted/m", "--model", "dear/m", "--prompt", "prompt.md", "--prompt", "rude.md"
    )
    # What is the app as it is already is not measured twice.
    labels = [each["variant"]["label"] for each in found["variants"]]
    assert labels == ["as it is", "scripted/m · rude.md", "dear/m · prompt.md", "dear/m · rude.md"]
    means = {(cell["run"], cell["metric"]): cell for cell in found["cells"]}
    runs = dict(zip(labels, [each["run"] for each in found["variants"]], strict=True))
    assert means[runs["as it is"], "exact"]["mean"] == 1.0
    worse = means[runs["dear/m · rude.md"], "exact"]["against_first"]
    assert worse["value"] == -1.0 and worse["p"] < 0.01
    dearer = means[runs["dear/m · prompt.md"], "cost"]["mean"] / means[runs["as it is"], "cost"]["mean"]
    assert dearer == pytest.approx(10)
    assert found["dimensions"] == ["exact", "cost", "latency"]
    # No is shorter than the right answer, and so cheaper.
    assert {"as it is", "scripted/m · rude.md"} <= set(found["frontier"])
    assert all(0 <= each["frontier"] <= 1 for each in found["variants"])


def test_a_measured_variant_becomes_a_release_while_the_files_are_the_same(at: Path, run: Run) -> None:
    found = compare(run, at, "--model", "dear/m")
    second = found["variants"][1]
    frozen = run(at, "compare", "freeze", "last", "2", "--json")
    assert frozen.json == {"release": second["release"], "app": "helper", "variant": "dear/m"}
    shown = run(at, "release", "show", second["release"], "--app", "helper", "--json").json
    assert shown["values"]["route"]["targets"] == ["dear/m"]
    (at / "apps" / "helper" / "prompt.md").write_text("Be kinder.")
    refused = run(at, "compare", "freeze", found["id"], "dear/m")
    assert refused.code == 1
    assert "changed since" in refused.err
    assert run(at, "compare", "freeze", found["id"], "cheap").code == 1


def test_one_that_answers_nothing_does_not_hide_the_others(at: Path, run: Run) -> None:
    found = compare(run, at, "--model", "mute/m", "--model", "dear/m", "--quality", "exact")
    by_label = {each["variant"]["label"]: each for each in found["variants"]}
    assert "answered nothing" in by_label["mute/m"]["error"]
    assert not by_label["dear/m"]["error"]
    assert found["dimensions"] == ["exact", "cost", "latency"]
    assert by_label["mute/m"]["frontier"] is None


def test_a_comparison_that_its_budget_ended_goes_on_with_what_is_left(at: Path, run: Run) -> None:
    first = compare(run, at, "--model", "dear/m", "--max-cost", "0.000001")
    assert first["ended"] == "budget"
    assert any("budget" in note for note in first["notes"])
    second = compare(run, at, "--model", "dear/m")
    assert (second["id"], second["ended"]) == (first["id"], "finished")
    assert [each["error"] for each in second["variants"]] == ["", ""]
    again = compare(run, at, "--model", "dear/m")
    assert again["id"] != first["id"]
    told = run(at, "compare", "list", "--json").json
    assert [each["id"] for each in told] == [again["id"], first["id"]]


def test_it_is_written_for_people(at: Path, run: Run) -> None:
    files = [at / f"out{ending}" for ending in (".html", ".md", ".json")]
    compare(run, at, "--vary", 'prompt.<b>rude|="rude.md"', *(f"-o{file}" for file in files))
    page, table, data = (file.read_text() for file in files)
    assert "<svg" in page and "&lt;b&gt;rude|" in page and "<b>rude" not in page
    assert "| 2 | <b>rude\\| |" in table
    assert json.loads(data)["app"] == "helper"
    shown = run(at, "compare", "show", "last")
    assert "nobody beats" in shown.out
    assert run(at, "compare", "show", "mx_nothing").code == 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--vary", "colour.red=1"], "'colour' cannot be varied"),
        (["--vary", 'route.hot={"temperature": 9}'], "route.temperature"),
        (["--prompt", "none.md"], "no prompt file"),
        (["--model", "scripted/m"], "the same release"),
        (["--model", "dear/m", "--quality", "beauty"], "does not measure 'beauty'"),
        (["--vary", "route.x=[1"], "not JSON"),
        ([], "vary something"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_asked(
    at: Path, run: Run, more: list[str], said: str
) -> None:
    done = run(at, "compare", "--app", "helper", "--suite", at / "suite.yaml", "-q", *more)
    assert done.code != 0
    assert said in done.err
    assert run(at, "eval", "list", "--json").json == []


def test_a_file_says_it_too(at: Path, run: Run) -> None:
    spec = {"app": "helper", "suite": "suite.yaml", "axes": {"app": {"rude": {"prompt": "rude.md"}}}}
    (at / "matrix.yaml").write_text(json.dumps(spec))
    done = run(at, "compare", at / "matrix.yaml", "-q", "--json")
    assert [each["variant"]["label"] for each in done.json["variants"]] == ["as it is", "rude"]
    (at / "matrix.yaml").write_text(json.dumps({**spec, "axis": {}}))
    broken = run(at, "compare", at / "matrix.yaml")
    assert broken.code == 1
    assert "axis" in broken.err


def test_combinations_are_bounded() -> None:
    with pytest.raises(Exception, match="125 variants; 64 at most"):
        variants_of({name: [str(n) for n in range(5)] for name in ("model", "prompt")} | {"guardrails": list("abcde")})
