"""`interlock knowledge questions`, as people and scripts meet it."""

from __future__ import annotations

import json
import re

import pytest

from .test_cli import make_workspace, run

pytestmark = pytest.mark.model
__all__ = ["run", "workspace"]


@pytest.fixture
def workspace(tmp_path, models_dir):
    return make_workspace(tmp_path / "workspace", models_dir)


def test_questions_are_made_decided_on_and_measured(run, tmp_path):
    assert run("ingest").code == 0
    made = run("knowledge", "questions", "make", "docs", "--count", "5", "--json").json
    assert made["made"] >= 1
    for question in made["questions"]:
        (answer,) = question["answers"]
        # The public document alone: whoever makes them may not read the other.
        assert answer["source"] == "returns.md"
        assert answer["quote"] in run("knowledge", "search", answer["quote"], "--json").json[0]["text"]
        assert question["state"] == "proposed"
    first, *rest = [question["id"] for question in made["questions"]]
    edited = run("knowledge", "questions", "edit", first, "What does sending something back cost?", "--json").json
    assert (edited["state"], edited["edited"], edited["origin"]) == ("accepted", True, made["questions"][0]["origin"])
    if rest:
        assert run("knowledge", "questions", "reject", *rest).out == f"{len(rest)} rejected\n"
    # What was rejected is not made again.
    assert run("knowledge", "questions", "make", "docs", "--json").json["made"] == 0
    exported = run("knowledge", "questions", "export", "docs").out
    assert json.loads(exported)["query"] == "What does sending something back cost?"
    assert run("knowledge", "questions", "list", "docs", "--state", "accepted", "--json").json[0]["id"] == first
    folder = tmp_path / "beir"
    told = run("knowledge", "questions", "export", "docs", "--beir", "--out", folder, "--json").json
    assert (told["questions"], told["documents"]) == (1, 1)
    assert "61,000" not in (folder / "corpus.jsonl").read_text()
    assert run("knowledge", "eval", folder, "--json").json["figures"]["ndcg@10"]["value"] == 1.0
    assert run("knowledge", "eval", "--collection", "docs", "--json").json["figures"]["ndcg@10"]["value"] == 1.0


def test_making_them_shows_how_far_it_is_to_a_person_and_nothing_to_a_log(run, monkeypatch):
    assert run("ingest").code == 0
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = run("knowledge", "questions", "make", "docs", "--count", "1")
    assert re.search(r"\r\d+ of 1 made", shown.err)
    assert shown.err.endswith("\n")
    assert shown.out.startswith("1 proposed: 1 ")
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    assert "made" not in run("knowledge", "questions", "make", "docs", "--count", "5").err
    # Everything that can be asked has been.
    assert run("knowledge", "questions", "make", "docs").out.startswith("0 proposed\n")


def test_questions_of_closed_documents_are_for_their_readers(run):
    assert run("ingest").code == 0
    made = run("knowledge", "questions", "make", "docs", "--as", "fay", "--json").json
    pay = [q for q in made["questions"] if q["answers"][0]["source"] == "pay/bands.md"]
    assert pay
    assert all(q["as"] == "fay" for q in pay)
    listed = {q["id"]: q for q in run("knowledge", "questions", "list", "docs", "--json").json}
    assert listed[pay[0]["id"]]["withheld"]
    assert (listed[pay[0]["id"]]["text"], listed[pay[0]["id"]]["answers"][0]["quote"]) == ("", "")
    refused = run("knowledge", "questions", "accept", pay[0]["id"])
    assert (refused.code, "may not read a document of this question" in refused.err) == (4, True)
    assert run("knowledge", "questions", "accept", pay[0]["id"], "--as", "fay").code == 0
    assert run("knowledge", "questions", "export", "docs").code == 3
    assert json.loads(run("knowledge", "questions", "export", "docs", "--as", "fay").out)["as"] == "fay"


def test_questions_of_people_are_added_and_what_is_not_there_is_said(run, tmp_path):
    assert run("ingest").code == 0
    file = tmp_path / "q.jsonl"
    good = {"id": "a", "query": "when may I return it?", "relevant": ["returns.md"]}
    good["quotes"] = {"returns.md": "within 30 days of delivery"}
    rows = [
        good,
        {"id": "b", "query": "how much is paid?", "relevant": ["pay/bands.md"], "as": "fay"},
        {"id": "c", "query": "how much is paid?", "relevant": ["pay/bands.md"], "as": "ada"},
        {"id": "d", "query": "who?", "relevant": ["returns.md"], "quotes": {"returns.md": "no such words"}},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = run("knowledge", "questions", "add", "docs", file, "--json")
    assert (told.code, told.json) == (1, {"added": 2, "known": 0, "unplaced": ["c", "d"]})
    assert run("knowledge", "questions", "add", "docs", file, "--json").json["known"] == 2
    (mine,) = run("knowledge", "questions", "list", "docs", "--as", "ada", "--state", "accepted", "--json").json[:1]
    assert mine["answers"][0]["quote"] == "within 30 days of delivery"
    start, end = mine["answers"][0]["span"]
    assert end - start == len(mine["answers"][0]["quote"])
