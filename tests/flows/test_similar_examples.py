"""Few-shot examples are chosen by the real embedding model: nearest to the question in meaning, not in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlock.testing.workspaces import write_workspace

from .commands import Run, runner

SHOTS = [
    ("Where is my parcel?", "On its way."),
    ("How do I change my password?", "Under Account."),
    ("Can I get my money back?", "Within 30 days."),
    ("The app crashes when it starts.", "Install it anew."),
    ("Do you have a job for me?", "See the board."),
    ("Which way is your office?", "By the river."),
]
ASKED = [
    ("when does the package that I ordered arrive", "Where is my parcel?"),
    ("I forgot my login credentials", "How do I change my password?"),
    ("may I return the goods for a refund", "Can I get my money back?"),
    ("your software closes by itself at launch", "The app crashes when it starts."),
    ("are you hiring engineers", "Do you have a job for me?"),
    ("what is the address of your headquarters", "Which way is your office?"),
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def house(at: Path, models: Path, examples: str) -> Path:
    script = [{"match_system": f"<output>{output}</output>", "reply": f"As in: {output}"} for _, output in SHOTS]
    root = write_workspace(
        at,
        settings={
            "models_dir": str(models),
            "gateway": {
                "providers": {"scripted": {"kind": "scripted", "script": [*script, {"reply": "none"}]}},
                "detect": False,
            },
        },
        apps={"helper": {"route": {"targets": ["scripted/m"], "retries": 0}}},
        prompt=f"---\nexamples: {{file: shots.jsonl, select: similar, {examples}}}\n---\n{{{{ examples }}}}",
    )
    rows = "".join(json.dumps({"input": asked, "output": answer}) + "\n" for asked, answer in SHOTS)
    (root / "apps" / "helper" / "shots.jsonl").write_text(rows)
    return root


def shown(run: Run, at: Path, question: str) -> list[str]:
    """Inputs of the examples, in the order in which they stand."""
    done = run(at, "prompt", "render", "helper", "--question", question, "--json")
    assert done.code == 0, done.err
    system: Any = done.json["system"]
    found = [asked for asked, _ in SHOTS if f"<input>{asked}</input>" in system]
    return sorted(found, key=system.index)


@pytest.mark.model
def test_the_nearest_in_meaning_is_shown_last_and_answers_follow_it(tmp_path: Path, models_dir: Path, run: Run) -> None:
    at = house(tmp_path, models_dir, "count: 2")
    for question, nearest in ASKED:
        order = shown(run, at, question)
        assert len(order) == 2 and order[-1] == nearest, (question, order)
    one = house(tmp_path, models_dir, "count: 1")
    for question, nearest in ASKED[:2]:
        said = run(one, "ask", question, "--app", "helper").out
        assert f"As in: {dict(SHOTS)[nearest]}" in said


@pytest.mark.model
def test_a_budget_keeps_the_nearest_of_what_fits(tmp_path: Path, models_dir: Path, run: Run) -> None:
    at = house(tmp_path, models_dir, "count: 6, max_tokens: 20")
    order = shown(run, at, "are you hiring engineers")
    assert 1 <= len(order) < 6 and order[-1] == "Do you have a job for me?"


def test_without_the_model_the_first_ones_are_shown_and_nothing_fails(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERLOCK_MODELS_DIR", str(tmp_path / "no-models"))
    at = house(tmp_path, tmp_path / "no-models", "count: 2")
    assert shown(run, at, "are you hiring engineers") == [asked for asked, _ in SHOTS[:2]]
    assert run(at, "ask", "are you hiring engineers", "--app", "helper").code == 0
