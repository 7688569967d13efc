"""`interlock knowledge tune` and the gate, as people and scripts meet them."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from interlock.knowledge.scratch import SCRATCH

from .test_cli import make_workspace, run

pytestmark = pytest.mark.model
__all__ = ["run", "workspace"]

_BIRDS = ["heron", "owl", "wren", "kite", "swift", "finch", "crane", "stork", "robin", "raven"]
_FACTS = ["eats", "nests in", "sings at", "fears", "flies over", "hides from"]


@pytest.fixture
def workspace(tmp_path, models_dir):
    """One long document, in which each sentence answers one question, and its questions with quotes."""
    folder = make_workspace(tmp_path / "workspace", models_dir)
    shutil.rmtree(folder / "documents")
    (folder / "documents").mkdir()
    lines, questions = [], []
    for number, (bird, fact) in enumerate((bird, fact) for bird in _BIRDS for fact in _FACTS):
        told = f"The {bird} {fact} item K{number:03d} of the list kept by the warden."
        lines.append(told + " Nothing else is known of it, and nobody has asked the keeper of the hall about it yet.")
        question = {"id": f"q{number}", "query": f"what is said of the {bird} and K{number:03d}?"}
        questions.append({**question, "relevant": ["birds.md"], "quotes": {"birds.md": told}})
    (folder / "documents" / "birds.md").write_text("# Birds\n\n" + "\n\n".join(lines) + "\n")
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    return folder


def test_tuning_cuts_the_collection_otherwise_beside_it_and_proposes_a_diff(run, workspace):
    file = workspace / "interlock.yaml"
    file.write_text(file.read_text() + "# kept\nknowledge:\n  # words of ours\n  candidates: 30\n")
    assert run("ingest").code == 0
    before = run("knowledge", "search", "heron", "--json").json
    arguments = ("knowledge", "tune", workspace / "questions.jsonl", "--context", "500", "--stage", "chunking")
    told = run(*arguments, "--json").json
    assert told["measure"] == "evidence"
    assert {trial["stage"] for trial in told["trials"]} == {"chunking"}
    assert told["embedded"] > 0
    assert told["better"]
    # A context of 500 characters holds one passage of 60 words, and none of 150.
    assert told["chunking"]["max_words"] < 150
    assert told["gain"]["interval"][0] > 0
    assert "# words of ours" in told["diff"]
    assert run("knowledge", "search", "heron", "--json").json == before
    kept = [path.name for place in (workspace / ".interlock" / SCRATCH).iterdir() for path in place.iterdir()]
    assert sorted(kept) == ["lock", "results.jsonl"]
    # Nothing is tried twice; what is put in is what was judged.
    again = run(*arguments, "--apply", "--json").json
    assert (again["score"], again["gain"], again["applied"]) == (told["score"], told["gain"], True)
    assert "# kept\nknowledge:\n" in file.read_text()
    assert yaml.safe_load(file.read_text())["knowledge"]["candidates"] == 30
    (report,) = run("ingest", "--json").json
    assert report["changed"] == 1
    after = run(*arguments, "--json").json
    assert after["current"] == told["score"]["value"]


def test_where_nothing_is_gained_nothing_is_proposed_and_that_is_said_once(run, workspace):
    assert run("ingest").code == 0
    file = workspace / "interlock.yaml"
    before = file.read_text()
    # All ways find the one document.
    rows = [json.loads(line) for line in (workspace / "questions.jsonl").read_text().splitlines()]
    plain = workspace / "plain.jsonl"
    plain.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "quotes"}) + "\n" for row in rows))
    arguments = ("knowledge", "tune", plain, "--stage", "candidates", "--apply")
    told = run(*arguments)
    assert told.code == 0
    assert "scores the same on these questions: there is no gain in any" in told.out
    assert "chance" not in told.out
    assert "Written" not in told.out
    found = run(*arguments, "--json").json
    assert (found["better"], found["diff"], found["settings"], found["applied"]) == (False, None, None, False)
    assert file.read_text() == before


def test_a_budget_ends_the_trials_and_the_next_run_goes_on(run, workspace):
    assert run("ingest").code == 0
    arguments = ("knowledge", "tune", workspace / "questions.jsonl", "--trials", "1", "--json")
    first = run(*arguments).json
    assert (first["stopped"], {trial["stage"] for trial in first["trials"]}) == ("trials", {"fusion"})
    second = run(*arguments).json
    assert {trial["stage"] for trial in second["trials"]} == {"fusion", "candidates"}
    none = run("knowledge", "tune", workspace / "questions.jsonl", "--budget-minutes", "0.00001", "--json").json
    assert none["stopped"] == "time"


def test_a_gate_fails_a_real_loss_and_says_how_large_it_is(run, workspace, tmp_path):
    assert run("ingest").code == 0
    asked, kept = workspace / "questions.jsonl", tmp_path / "baseline.jsonl"
    good = [{**json.loads(line), "relevant": ["birds.md"]} for line in asked.read_text().splitlines()]
    asked.write_text("".join(json.dumps(row) + "\n" for row in good))
    assert run("knowledge", "eval", asked, "--out", kept).code == 0
    same = run("knowledge", "eval", asked, "--baseline", kept, "--gate", "--json")
    assert (same.code, same.json["gate"]["verdict"]) == (0, "pass")
    file = workspace / "documents" / "birds.md"
    file.rename(workspace / "documents" / "moved.md")
    assert run("ingest").code == 0
    lost = run("knowledge", "eval", asked, "--baseline", kept, "--gate")
    assert lost.code == 1
    assert "gate: fail (60 questions)" in lost.err
    assert "ndcg@10 lost 1.0000, surely between 1.0000 and 1.0000" in lost.err
    # Without --gate it is told, and fails nothing.
    assert run("knowledge", "eval", asked, "--baseline", kept).code == 0
    refused = run("knowledge", "eval", asked, "--gate")
    assert (refused.code, "--baseline FILE" in refused.err) == (1, True)
    asked.write_text("".join(json.dumps({**row, "id": f"x{row['id']}"}) + "\n" for row in good))
    refused = run("knowledge", "eval", asked, "--baseline", kept, "--gate")
    assert "0 of the 60 questions of the baseline" in refused.err
