"""Faults of a test set: cases that ask the same, and cases that the app was made from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import NotFound
from interlock.evals.hygiene import leaks, near_duplicates, texts_of
from interlock.evals.types import Case

LONG = "How many days after delivery may a customer return a damaged sensor to the shop for a full refund?"


def case(name: str, question: str, expected: str | None = None) -> Case:
    return Case(id=name, input=question, expected=expected)


def test_near_duplicates_are_found_whatever_their_case_and_punctuation() -> None:
    cases = [
        case("a", LONG, "30"),
        case("b", LONG.upper().replace("?", " !!"), "30"),
        case("c", LONG.replace("How many days", "How many days, please,"), "60"),
        case("d", "Who books the trips of the sales people in the north?"),
    ]
    found = {(each.first, each.second): each for each in near_duplicates(cases)}
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert found["a", "b"].alike == 1 and found["a", "b"].same_answer
    assert not found["a", "c"].same_answer


@given(st.lists(st.text(max_size=60).filter(str.strip), max_size=12))
def test_a_case_is_no_duplicate_of_itself_and_pairs_are_told_once(questions: list[str]) -> None:
    found = near_duplicates([case(str(n), question) for n, question in enumerate(questions)])
    pairs = [(each.first, each.second) for each in found]
    assert len(pairs) == len(set(pairs))
    assert all(int(first) < int(second) for first, second in pairs)
    assert all(0.7 <= each.alike <= 1 for each in found)


def test_a_case_that_stands_in_a_prompt_leaks_and_a_short_one_does_not(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.md"
    prompt.write_text(f"Answer shortly.\n\nExample: {LONG.lower()}\nWithin 30 days.\nWhy?")
    cases = [
        case("leaks", LONG),
        case("answer", "something else entirely, which nobody has asked before now", f"It is said: {LONG}"),
        case("short", "Why?"),
        case("fresh", "Which of the two warehouses keeps the spare sensors over the winter?"),
    ]
    found = leaks(cases, texts_of([tmp_path]))
    assert [(each.case, each.part, each.where) for each in found] == [
        ("leaks", "input", str(prompt)),
        ("answer", "expected", str(prompt)),
    ]
    with pytest.raises(NotFound):
        texts_of([tmp_path / "none"])


def test_the_command_says_what_it_found_and_ends_with_5(tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    rows = [{"id": "a", "input": LONG}, {"id": "b", "input": LONG}]
    suite.write_text(json.dumps({"suite": "s", "cases": rows, "metrics": ["latency"]}))
    words = [sys.executable, "-m", "interlock", "eval", "check", str(suite), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 5
    told = json.loads(done.stdout)
    assert [(each["first"], each["second"]) for each in told["near_duplicates"]] == [("a", "b")]
    suite.write_text(json.dumps({"suite": "s", "cases": rows[:1], "metrics": ["latency"]}))
    assert subprocess.run(words, capture_output=True, cwd=tmp_path, check=False).returncode == 0
