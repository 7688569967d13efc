"""Measures of a ranking, by values known from elsewhere and by laws."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import InvalidInput, NotFound
from interlock.evals.judged import read_beir, read_judged
from interlock.evals.ranking import MEASURES

GRADES = {"a": 3, "b": 2, "c": 3, "e": 1, "f": 2}


@pytest.mark.parametrize(
    ("name", "k", "value"),
    [
        ("ndcg", 6, 0.9608),  # the worked example of Wikipedia's article on discounted cumulative gain
        ("recall", 3, 0.6),
        ("precision", 4, 0.75),
        ("mrr", 6, 1.0),
        ("map", 6, (1 + 1 + 1 + 4 / 5 + 5 / 6) / 5),
        ("hit", 1, 1.0),
    ],
)
def test_values_known_from_elsewhere(name, k, value):
    assert MEASURES[name](list("abcdef"), GRADES, k) == pytest.approx(value, abs=1e-4)


def test_the_first_relevant_one_decides_the_reciprocal_rank():
    assert MEASURES["mrr"](["x", "y", "a"], GRADES, 10) == pytest.approx(1 / 3)
    assert MEASURES["mrr"](["x", "y", "a"], GRADES, 2) == 0


ids = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@pytest.mark.parametrize("name", MEASURES)
@given(ids, st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 3), max_size=8), st.integers(1, 10))
def test_measures_lie_between_none_and_all(name, ranking, relevant, k):
    value = MEASURES[name](ranking, relevant, k)
    assert 0 <= value <= 1 + 1e-12
    if not any(relevant.get(each) for each in ranking[:k]):
        assert value == 0
    best = sorted(relevant, key=lambda each: -relevant[each])
    if any(relevant.values()):
        assert MEASURES[name](best, relevant, k) >= value - 1e-12


def test_questions_are_read_from_lines_and_golden_cases(tmp_path):
    file = tmp_path / "q.jsonl"
    rows = [
        {"query": "one?", "relevant": ["a.md"], "as": "ada", "id": "q1"},
        {"query": "two?", "relevant": {"a.md": 2, "b.md": 0}},
        {"question": "three?", "gold": [{"document": "c.md", "quote": "x"}]},
        {"question": "four?", "gold": []},
    ]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = read_judged(file)
    assert [(q.id, q.text, dict(q.relevant), q.user) for q in found] == [
        ("q1", "one?", {"a.md": 1}, "ada"),
        ("2", "two?", {"a.md": 2}, None),
        ("3", "three?", {"c.md": 1}, None),
    ]


@pytest.mark.parametrize(
    ("line", "param"),
    [
        ("{", "q.jsonl"),
        ("[]", "q.jsonl"),
        ('{"query": " ", "relevant": ["a"]}', "query"),
        ('{"query": "x"}', "relevant"),
        ('{"query": "x", "relevant": []}', "relevant"),
        ('{"query": "x", "relevant": {"a": -1}}', "relevant"),
        ('{"query": "x", "relevant": {"a": true}}', "relevant"),
        ('{"query": "x", "relevant": ["a"], "as": 3}', "as"),
        ('{"query": "x", "relevant": ["a"], "id": "q"}\n{"query": "y", "relevant": ["a"], "id": "q"}', "id"),
        ("", "q.jsonl"),
    ],
)
def test_a_wrong_line_names_its_field(tmp_path, line, param):
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(InvalidInput) as caught:
        read_judged(tmp_path / "q.jsonl")
    assert caught.value.param == param


def test_a_folder_in_beirs_format_is_read_in_both_layouts(tmp_path):
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "one?"}\n{"_id": "2", "text": "two?"}\n')
    with pytest.raises(NotFound):
        read_beir(tmp_path)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\td1\t2\n1\td2\t0\n9\td1\t1\n")
    assert [(q.id, dict(q.relevant)) for q in read_beir(tmp_path)] == [("1", {"d1": 2})]
    (tmp_path / "qrels.tsv").write_text("2\t0\td3\t1\n")
    assert [(q.id, dict(q.relevant)) for q in read_beir(tmp_path)] == [("2", {"d3": 1})]
    (tmp_path / "qrels.tsv").write_text("2\td3\n")
    with pytest.raises(InvalidInput):
        read_beir(tmp_path)
