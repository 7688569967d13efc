"""What would make an app better is answered from measurements on its own cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlock.testing.workspaces import write_workspace

from .commands import Run, runner

PLACES = [f"{first}{last}" for first in ("Ader", "Brig", "Coll", "Dorn") for last in "abcdefg"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def priced(**usd: str) -> dict[str, Any]:
    return {
        "prices": {
            f"{name}/m": {"input_per_million": price, "output_per_million": price} for name, price in usd.items()
        }
    }


def plain(at: Path, scripts: dict[str, Any], prices: dict[str, str]) -> None:
    """An app without documents, and a suite with labelled cases that are not asked."""
    providers = {name: {"kind": "scripted", "script": script} for name, script in scripts.items()}
    write_workspace(
        at,
        settings={"gateway": {"providers": providers, "detect": False}, "cost": priced(**prices)},
        apps={"helper": {"route": {"targets": ["small/m"], "retries": 0}}},
        prompt="Be kind. {% if examples is defined %}{{ examples }}{% endif %}",
    )
    cases = [{"id": f"c{n}", "input": f"word {n}", "expected": f"It is word {n}"} for n in range(60)]
    cases += [{"id": f"t{n}", "input": f"tune {n}", "expected": f"It is tune {n}", "split": "train"} for n in range(12)]
    suite = {"suite": "kindness", "cases": cases, "split": "test", "metrics": ["exact"]}
    (at / "suite.yaml").write_text(json.dumps(suite))


def advice(run: Run, at: Path, *more: object, app: str = "helper") -> Any:
    done = run(at, "advise", "--app", app, "--suite", at / "suite.yaml", "-q", "--json", *more)
    assert done.code == 0, done.err
    return done.json


RIGHT = {"reply": "It is {question}"}
WRONG = {"reply": "Perhaps"}
SHOWN = {"match_system": "It is tune", **RIGHT}


def answers(found: Any) -> dict[str, str]:
    return {each["question"]: each["answer"] for each in found["advice"]["findings"]}


def test_examples_that_close_the_gap_are_taken_before_tuning(tmp_path: Path, run: Run) -> None:
    plain(tmp_path, {"small": [SHOWN, WRONG], "large": [RIGHT]}, {"small": "1", "large": "30"})
    found = advice(run, tmp_path, "--model", "large/m", "--margin", "0.2")
    assert [each["variant"]["label"] for each in found["variants"]] == [
        "small/m · prompt only",
        "small/m · prompt and examples",
        "large/m · prompt only",
        "large/m · prompt and examples",
    ]
    assert answers(found) == {
        "documents": "not measured",
        "retrieval": "not measured",
        "examples": "yes",
        # With examples both are right.
        "model": "no",
        "tuning": "no",
    }
    assert found["advice"]["recommended"] == "small/m · prompt and examples"
    assert any("--collection" in note for note in found["notes"])
    shown = (tmp_path / "apps" / "helper" / "advice" / "examples.jsonl").read_text()
    assert "tune 3" in shown
    assert "word" not in shown


def test_a_gap_that_nothing_cheap_closes_is_worth_a_trial_of_tuning(tmp_path: Path, run: Run) -> None:
    plain(tmp_path, {"small": [WRONG], "large": [RIGHT]}, {"small": "1", "large": "30"})
    found = advice(run, tmp_path, "--model", "large/m")
    assert answers(found)["tuning"] == "yes"
    tuning = found["advice"]["findings"][-1]
    assert "12 labelled examples" in tuning["said"]
    assert tuning["contrasts"][0]["verdict"] == "worse"
    assert found["advice"]["recommended"].startswith("large/m")
    assert found["advice"]["usd_per_thousand"]["large/m · prompt only"] > 0


def test_a_dearer_model_that_is_no_better_is_not_taken(tmp_path: Path, run: Run) -> None:
    plain(tmp_path, {"small": [RIGHT], "large": [RIGHT]}, {"small": "1", "large": "30"})
    found = advice(run, tmp_path, "--model", "large/m", "--margin", "0.2")
    assert answers(found)["model"] == "no"
    assert answers(found)["tuning"] == "no"
    assert found["advice"]["recommended"] == "small/m · prompt only"


def test_few_cases_tell_nothing_and_say_how_many_would(tmp_path: Path, run: Run) -> None:
    plain(tmp_path, {"small": [{"match": "word [0-6]$", **RIGHT}, WRONG], "large": [RIGHT]}, {})
    suite = json.loads((tmp_path / "suite.yaml").read_text())
    suite["cases"] = suite["cases"][:8]
    (tmp_path / "suite.yaml").write_text(json.dumps(suite))
    found = advice(run, tmp_path, "--model", "large/m")
    assert answers(found)["model"] == "cannot tell"
    said = next(each["said"] for each in found["advice"]["findings"] if each["question"] == "model")
    assert "more would" in said


def test_documents_and_what_retrieval_loses(tmp_path: Path, run: Run) -> None:
    # Where it is given passages it fails, so that they are quoted instead.
    providers = {"small": {"kind": "scripted", "script": [{"match": "lies at", "fail_status": 503}, WRONG]}}
    write_workspace(
        tmp_path,
        settings={"gateway": {"providers": providers, "detect": False}},
        apps={
            "helper": {
                "route": {"targets": ["small/m", "extractive"], "retries": 0},
                "knowledge": {"collection": "docs", "limit": 1},
            }
        },
        prompt="Answer from the passages.",
        documents={f"{name}.md": f"# {name}\n\n{name} lies at {n + 10} metres.\n" for n, name in enumerate(PLACES)},
    )
    cases = [
        {
            "id": name,
            "input": f"How high does {name} lie?",
            "facts": [[f"{n + 10} metres"]],
            "evidence": [{"source": f"{name}.md", "quote": f"{name} lies at {n + 10} metres."}],
        }
        for n, name in enumerate(PLACES)
    ]
    (tmp_path / "suite.yaml").write_text(json.dumps({"suite": "heights", "cases": cases, "metrics": ["facts"]}))
    assert run(tmp_path, "ingest").code == 0
    found = advice(run, tmp_path, "--margin", "0.3")
    labels = [each["variant"]["label"] for each in found["variants"]]
    assert labels == ["small/m · documents", "small/m · prompt only", "small/m · right documents"]
    assert not [each for each in found["variants"] if each["error"]]
    assert answers(found)["documents"] == "yes"
    assert answers(found)["retrieval"] == "no"
    assert "right documents" not in found["advice"]["recommended"]
    assert not any("right documents" in label for label in found["frontier"])
    refused = run(tmp_path, "compare", "freeze", "last", 3)
    assert refused.code == 1
    assert "by hand" in refused.err


def test_the_memo_is_written_and_read_again(tmp_path: Path, run: Run) -> None:
    plain(tmp_path, {"small": [SHOWN, WRONG]}, {"small": "1"})
    told = run(tmp_path, "advise", "--app", "helper", "--suite", tmp_path / "suite.yaml", "-q", "-o", tmp_path / "m.md")
    assert told.code == 0, told.err
    assert "take small/m · prompt and examples" in told.out
    memo = (tmp_path / "m.md").read_text()
    assert memo.startswith("# helper: take small/m · prompt and examples")
    assert "| Would examples in the prompt help? | yes |" in memo
    again = tmp_path / "m.html"
    assert run(tmp_path, "compare", "show", "last", "-o", again).code == 0
    assert "Would examples in the prompt help?" in again.read_text()


def test_one_way_only_is_nothing_to_advise_on(tmp_path: Path, run: Run) -> None:
    plain(tmp_path, {"small": [RIGHT]}, {})
    suite = json.loads((tmp_path / "suite.yaml").read_text())
    suite["cases"] = [case for case in suite["cases"] if "split" not in case]
    (tmp_path / "suite.yaml").write_text(json.dumps(suite))
    done = run(tmp_path, "advise", "--app", "helper", "--suite", tmp_path / "suite.yaml", "-q")
    assert done.code == 1
    assert "--model" in done.err
