from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.evals.suites import questions, suite_of, write_suite

from interlock.core.errors import InterlockError, InvalidInput, NotFound, TooLarge
from interlock.evals import suite as suites
from interlock.evals.suite import read_suite


def test_a_suite_reads_its_cases_and_names_them_by_content(tmp_path: Path) -> None:
    first = suite_of(tmp_path, questions(3))
    again = suite_of(tmp_path, questions(3))
    other = suite_of(tmp_path, questions(4))
    assert [case.id for case in first.cases] == ["c0", "c1", "c2"]
    assert first.digest == again.digest != other.digest


def test_how_a_suite_is_run_does_not_make_another_test_of_it(tmp_path: Path) -> None:
    one = suite_of(tmp_path, questions(3), run={"concurrency": 1})
    two = suite_of(tmp_path, questions(3), run={"concurrency": 9, "timeout_s": 5})
    assert one.digest == two.digest
    assert one.digest != suite_of(tmp_path, questions(3), repeats=2).digest


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"metricz": []}, "metricz", "Extra inputs"),
        ({"repeats": "many"}, "repeats", "integer"),
        ({"metrics": []}, "metrics", "at least 1"),
        ({"metrics": ["no_such_metric"]}, None, "no metric named"),
        (
            {"metrics": [{"metric": "exact", "options": {"normalize": True}}]},
            "metrics.exact.options.normalize",
            "Extra",
        ),
        ({"metrics": ["exact", "exact"]}, "metrics.name", "same name"),
        ({"gate": {"rules": [{"metric": "facts", "at_least": 0.5}]}}, "gate.rules.0.metric", "does not measure"),
        ({"gate": {"rules": [{"metric": "exact"}]}}, "gate.rules.0", "exactly one of"),
        ({"gate": {"rules": [{"metric": "exact", "at_least": 0.5, "margin": 0.1}]}}, "gate.rules.0", "exactly one of"),
        ({"gate": {"rules": [{"metric": "exact", "at_least": 80}]}}, "gate.rules.0", "between 0 and 1"),
        ({"gate": {"alpha": 0.9, "rules": [{"metric": "exact", "at_least": 0.5}]}}, "gate.alpha", "less than"),
        (
            {"gate": {"rules": [{"metric": "exact", "at_least": 0.5}], "slices": ["size", "sise"]}},
            "gate.slices.1",
            "slice 'sise', which no case has",
        ),
        ({"split": "train"}, "split", "no cases"),
        ({"cases": [{"file": "missing.jsonl"}]}, "cases.file", "no case file"),
        ({"cases": [{"file": "cases.jsonl", "split": "train"}]}, "cases.split", "none of its 2 cases"),
        ({"cases": [{"id": "a", "input": "x", "colour": "red"}]}, "cases.0.colour", "Extra inputs"),
        ({"cases": [{"file": "cases.jsonl", "colour": "red"}]}, "cases.0.colour", "Extra inputs"),
        ({"cases": [{"id": "a", "input": "x", "expected": float("nan")}]}, "cases", "'a' holds a number or a text"),
    ],
)
def test_a_bad_suite_is_refused_with_the_field_named(
    tmp_path: Path, fields: dict[str, Any], param: str | None, said: str
) -> None:
    with pytest.raises(InterlockError, match=said) as caught:
        suite_of(tmp_path, questions(2, slices={"size": "big"}), **fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "a", "input": "x"', "line 2 .* is not JSON"),
        ("[1]", "line 2 .* no JSON object"),
        ('{"id": "a"}', "line 2 .*input: Field required"),
        ('{"id": "a", "input": ""}', "line 2 .*input is empty"),
        ('{"id": "a", "input": "x", "repeat": 3}', "line 2 .*repeat: Extra"),
        ('{"id": "a", "input": "x", "expected": NaN}', "line 2 of 'cases.jsonl' is not JSON: NaN is no number"),
        ('{"id": "a", "input": "x", "expected": [-1e999]}', "line 2 of 'cases.jsonl' is not JSON: a number is too"),
        ('{"id": "a", "input": "half \\ud800 a pair"}', "line 2 of 'cases.jsonl' is not JSON: a text has half"),
        ('{"id": "a", "input": "x", "id": "b"}', "line 2 of 'cases.jsonl' is not JSON: the key 'id' is there twice"),
        ('{"id": "a", "input": "x", "slices": {"k": "1", "k": "2"}}', "line 2 .*the key 'k' is there twice"),
        ('{"id": "a", "input": [{"role": "assistant", "content": "x"}]}', "line 2 .*the user's"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    place = write_suite(tmp_path, questions(1))
    with (tmp_path / "cases.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(InvalidInput, match=said):
        read_suite(place)


def test_a_gate_may_ask_for_slices_and_tags_that_a_case_has(tmp_path: Path) -> None:
    gate = {"rules": [{"metric": "exact", "at_least": 0.5}], "slices": ["size", "tag:hard"]}
    rows = [*questions(1, slices={"size": "big"}), {"id": "x", "input": "x", "tags": ["hard"]}]
    suite = suite_of(tmp_path, rows, gate=gate)
    assert suite.spec.gate is not None and suite.spec.gate.slices == ["size", "tag:hard"]


def test_an_escaped_character_outside_the_first_plane_is_read(tmp_path: Path) -> None:
    (case,) = suite_of(tmp_path, [{"id": "a", "input": "\U0001f600"}]).cases
    assert "\\ud83d" in (tmp_path / "cases.jsonl").read_text("utf-8")
    assert case.input == "\U0001f600"


def test_an_id_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="1 case ids are there twice, first 'c0'"):
        suite_of(tmp_path, [*questions(1), *questions(1)])


def test_a_file_beyond_the_bound_is_refused_without_being_read(tmp_path: Path) -> None:
    place = write_suite(tmp_path, questions(1))
    with (tmp_path / "cases.jsonl").open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(TooLarge, match=r"1,024 MiB; 512 MiB at most"):
        read_suite(place)


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    place = write_suite(tmp_path, questions(1))
    (tmp_path / "cases.jsonl").write_bytes(b'{"id": "a", "input": "' + b"x" * (5 << 20) + b'"}')
    with pytest.raises(InvalidInput, match="longer than 4 MiB"):
        read_suite(place)


def test_a_suite_that_is_not_there_or_no_yaml_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_suite(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("suite: [", "utf-8")
    with pytest.raises(InvalidInput, match="not YAML"):
        read_suite(tmp_path / "bad.yaml")


def test_a_golden_set_is_read_as_cases(tmp_path: Path) -> None:
    golden = {
        "id": "g1",
        "kind": "single",
        "question": "How long?",
        "as": "dana",
        "answerable": True,
        "facts": [["30 days", "thirty days"]],
        "gold": [{"document": "returns.md", "quote": "within 30 days"}],
    }
    (tmp_path / "golden.jsonl").write_text(json.dumps(golden) + "\n", "utf-8")
    suite = suite_of(tmp_path, questions(1), cases=[{"file": "golden.jsonl", "format": "golden"}], metrics=["facts"])
    (case,) = suite.cases
    assert (case.user, case.answerable, case.relevant, case.slices) == (
        "dana",
        True,
        {"returns.md": 1},
        {"kind": "single"},
    )
    assert case.evidence[0].quote == "within 30 days"


def test_every_bound_of_a_suite_is_the_one_that_is_documented() -> None:
    assert (suites.MOST_FILE_BYTES, suites.MOST_CASES) == (512 << 20, 1_000_000)
