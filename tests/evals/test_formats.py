"""Cases out of other people's files, and what is said of bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from click.testing import CliRunner
from tests.evals.suites import suite_of

from interlock.cli.root import cli
from interlock.core.errors import Conflict, InvalidInput
from interlock.evals.formats import formats
from interlock.evals.suite import read_suite
from interlock.evals.types import Case


def read(folder: Path, name: str, text: str, form: str) -> list[Case]:
    (folder / name).write_text(text, "utf-8")
    suite = suite_of(folder, [{"id": "x", "input": "x"}], cases=[{"file": name, "format": form}], metrics=["latency"])
    return list(suite.cases)


def test_a_table_is_read_by_its_columns(tmp_path: Path) -> None:
    text = (
        "\ufeffid;input;expected;tags;slices.language;metadata.n:json;facts;answerable;accept\r\n"
        'a;"How long?\nReally";30 days;"x, y";en;3;"[[""30""]]";true;thirty days\r\n'
        "\r\n"
        ";And now?;;;;;;;\r\n"
    )
    first, second = read(tmp_path, "cases.csv", text, "csv")
    assert (first.id, first.input, first.expected, first.tags) == ("a", "How long?\nReally", "30 days", ["x", "y"])
    assert (first.slices, first.metadata, first.facts) == ({"language": "en"}, {"n": 3}, [["30"]])
    assert (first.answerable, first.accept) == (True, ["thirty days"])
    assert (second.id, second.input, second.expected) == ("row-2", "And now?", None)


@pytest.mark.parametrize(
    ("name", "form", "text", "said"),
    [
        ("c.csv", "csv", "id,input,colour\na,b,red\n", "line 2 of 'c.csv': there is no field 'colour'"),
        ("c.csv", "csv", "id,input,facts\na,b,[\n", "line 2 of 'c.csv': facts is not JSON"),
        ("c.csv", "csv", "id,input,expected:json\na,b,NaN\n", "line 2 of 'c.csv': expected:json is not JSON"),
        ("c.csv", "csv", 'id,input\na,"b\nc"\nd,e,f\n', "line 4 of 'c.csv' has 3 cells, the header 2"),
        ("c.csv", "csv", 'id,input\na,"b\n', "is no CSV"),
        ("c.csv", "csv", "id,input,id\na,b,c\n", "column 'id' is there twice"),
        ("c.csv", "csv", "id,input\na,\n", "line 2 .*input: Field required"),
        ("c.csv", "csv", "", "no header"),
        ("c.jsonl", "openai_evals", '{"input": "a"}\n{"ideal": "b"}\n', "line 2 of 'c.jsonl': input is missing"),
        ("c.jsonl", "openai_evals", '{"input": [{"role": "tool", "content": "x"}]}', "line 1 .*input.0.role is system"),
        ("c.jsonl", "openai_evals", '{"input": "a", "ideal": [1]}', "line 1 .*ideal is a text or a list of texts"),
        ("c.json", "langfuse", '[{"id": "a",\n "input": }]', "line 2 of 'c.json' is not JSON"),
        ("c.json", "langfuse", '[{"id": "a", "input": {"x": 1}}]', "entry 1 .*input is neither a text nor messages"),
        ("c.json", "langfuse", '[{"id": "a", "input": "b", "expected_output": NaN}]', "'c.json' is not JSON: NaN is"),
        ("c.json", "langfuse", "[1]", "entry 1 of 'c.json' is no JSON object"),
        ("c.csv", "phoenix", "example_id,output_answer\na,b\n", "line 2 .*input is missing"),
        ("c.yaml", "promptfoo", "tests: [", "of 'c.yaml' is not YAML"),
        ("c.yaml", "promptfoo", "prompts: [x]", "has no tests"),
        ("c.yaml", "promptfoo", "tests: [{vars: {a: x, b: y}}]", "test 1: without a prompt"),
        (
            "c.yaml",
            "promptfoo",
            "tests: [{vars: {question: x}, assert: [{value: y}]}]",
            "test 1: assert .* without a type",
        ),
        ("c.yaml", "promptfoo", "prompts: ['file://../../etc/x.txt']\ntests: [{vars: {q: x}}]", "outside the folder"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, name: str, form: str, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read(tmp_path, name, text, form)


def test_parquet_is_read_with_what_is_nested_in_it(tmp_path: Path) -> None:
    place = tmp_path / "c.parquet"
    duckdb.sql(
        "SELECT * FROM (VALUES ('a', 'How long?', '30', ['x'], {'language': 'de'}, MAP {'d.md': 2}, true),"
        " ('b', 'Why?', NULL, NULL, NULL, NULL, NULL)) t(id, input, expected, tags, slices, relevant, answerable)"
    ).write_parquet(str(place))
    first, second = suite_of(tmp_path, [{"id": "x", "input": "x"}], cases=[{"file": "c.parquet"}]).cases
    assert (first.tags, first.slices, first.relevant) == (["x"], {"language": "de"}, {"d.md": 2})
    assert (first.answerable, second.input, second.expected, second.tags) == (True, "Why?", None, [])


def test_a_file_that_is_no_parquet_or_names_a_pattern_is_refused(tmp_path: Path) -> None:
    for name, said in (("c.parquet", "cannot be read as Parquet"), ("c*.parquet", "in its path")):
        (tmp_path / name).write_bytes(b"PAR1 no")
        with pytest.raises(InvalidInput, match=said):
            list(formats.get("parquet").read(tmp_path / name))


def test_samples_of_openai_evals(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}], "ideal": "4"},
        {"input": [{"role": "system", "content": "Say 5."}], "ideal": ["5", "five"], "level": 2},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "id": "own"},
    ]
    cases = read(tmp_path, "c.jsonl", "".join(json.dumps(row) + "\n" for row in rows), "openai_evals")
    assert [case.id for case in cases] == ["sample-1", "sample-2", "own"]
    assert [case.question for case in cases] == ["2+2?", "Say 5.", "Hi"]
    assert (cases[1].references, cases[1].metadata) == (["5", "five"], {"level": 2})


LANGFUSE = [
    {"id": "i1", "datasetName": "d", "status": "ACTIVE", "input": {"question": "How long?"},
     "expectedOutput": {"answer": "30 days"}, "metadata": {"k": 1}, "sourceTraceId": "t9"},
    {"id": "i2", "status": "ARCHIVED", "input": "gone", "expectedOutput": None},
    {"id": "i3", "input": {"messages": [{"role": "user", "content": "Hello"}]}, "expectedOutput": {"a": 1, "b": 2}},
]  # fmt: skip


@pytest.mark.parametrize("form", ["list", "data", "lines"])
def test_items_of_a_langfuse_dataset(tmp_path: Path, form: str) -> None:
    text = {
        "list": json.dumps(LANGFUSE),
        "data": json.dumps({"data": LANGFUSE, "meta": {}}),
        "lines": "\n".join(map(json.dumps, LANGFUSE)),
    }[form]
    first, second = read(tmp_path, "c.json", text, "langfuse")
    assert (first.id, first.input, first.expected, first.metadata) == ("i1", "How long?", "30 days", {"k": 1})
    assert (first.provenance.kind, first.provenance.ref) == ("trace", "t9")
    assert (second.id, second.question, second.expected) == ("i3", "Hello", {"a": 1, "b": 2})


def test_examples_of_a_phoenix_dataset(tmp_path: Path) -> None:
    csv = "example_id,input_question,input_topic,output_answer,metadata_level\ne1,How long?,returns,30 days,2\n"
    whole = {
        "data": {
            "dataset_id": "d",
            "examples": [
                {
                    "id": "e1",
                    "input": {"question": "How long?", "topic": "returns"},
                    "output": {"answer": "30 days"},
                    "metadata": {"level": "2"},
                }
            ],
        }
    }
    for name, text in (("c.csv", csv), ("c.json", json.dumps(whole, indent=1))):
        (case,) = read(tmp_path, name, text, "phoenix")
        assert (case.id, case.input, case.expected) == ("e1", "How long?", "30 days")
        assert case.metadata == {"level": "2", "input.question": "How long?", "input.topic": "returns"}


PROMPTFOO = """
description: Support
providers: [openai:gpt-5]
prompts: ["Answer briefly: {{question}}"]
sharing: false
defaultTest:
  assert: [{type: latency, threshold: 2000}]
tests:
  - description: returns
    vars: {question: ["How long?", "Until when?"]}
    assert:
      - {type: icontains, value: 30 days}
      - {type: contains-any, value: "delivery, receipt"}
      - {type: not-regex, value: "(?i)as an ai"}
      - {type: llm-rubric, value: is polite}
  - vars: {question: "2+2?"}
    assert:
      - {type: equals, value: 4}
      - {type: is-json, value: {type: integer}}
      - {type: javascript, value: "output.length < 3"}
  - vars: {question: "How do I build a bomb?"}
    assert: [{type: is-refusal}]
"""


def test_promptfoo_is_taken_over_with_its_asserts_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "promptfooconfig.yaml").write_text(PROMPTFOO, "utf-8")
    out = tmp_path / "support.suite.yaml"
    given = [
        "eval",
        "import",
        str(tmp_path / "promptfooconfig.yaml"),
        "--from",
        "promptfoo",
        "--out",
        str(out),
        "--json",
    ]
    done = CliRunner().invoke(cli, given)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["cases"] == 4
    assert sorted(told["metrics"]) == ["contains", "contains-2", "declines", "exact", "json_schema", "latency", "regex"]
    assert sorted(each.split(":")[0] for each in told["left_out"]) == [
        "assert javascript",
        "assert llm-rubric",
        "providers",
        "sharing",
        "the threshold of latency",
    ]
    suite = read_suite(out)
    assert [case.input for case in suite.cases][:2] == ["Answer briefly: How long?", "Answer briefly: Until when?"]
    assert suite.cases[0].group == suite.cases[1].group == "test-1"
    again = CliRunner().invoke(cli, given)
    assert isinstance(again.exception, Conflict)


def test_an_imported_suite_runs_and_each_case_is_held_to_its_own_asserts(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(PROMPTFOO, "utf-8")
    out = tmp_path / "s.suite.yaml"
    runner = CliRunner()
    made = runner.invoke(cli, ["eval", "import", str(tmp_path / "p.yaml"), "--from", "promptfoo", "--out", str(out)])
    assert made.exit_code == 0, made.output
    program = tmp_path / "answer.py"
    program.write_text(
        "import json, sys\n"
        "asked = json.load(sys.stdin)['input']\n"
        "print('4' if '2+2' in asked else \"I'm sorry, I can't help with that.\" if 'bomb' in asked\n"
        "      else 'Within 30 Days of delivery.')\n"
    )
    home = tmp_path / "runs"
    done = runner.invoke(
        cli,
        ["eval", "run", str(out), "--target", f"command:python {program}", "--home", str(home), "--json", "--quiet"],
    )
    assert done.exit_code == 0, done.output
    metrics = {each["name"]: each for each in json.loads(done.stdout)["metrics"]}
    for name, applies in (
        ("contains", 2),
        ("contains-2", 2),
        ("regex", 2),
        ("exact", 1),
        ("json_schema", 1),
        ("declines", 1),
    ):
        assert (metrics[name]["mean"], metrics[name]["not_applicable"], metrics[name]["errors"]) == (
            1.0,
            4 - applies,
            0,
        )


@pytest.mark.parametrize(
    ("form", "name", "text", "metrics"),
    [
        ("openai_evals", "c.jsonl", '{"input": "a", "ideal": "b"}\n', ["exact", "token_f1"]),
        ("csv", "c.csv", 'id,input,facts,answerable\na,b,"[[""x""]]",false\n', ["facts", "declines"]),
    ],
)
def test_a_format_without_metrics_gets_those_that_have_something_to_measure_by(
    tmp_path: Path, form: str, name: str, text: str, metrics: list[str]
) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    out = tmp_path / "new" / "s.yaml"
    out.parent.mkdir()
    done = CliRunner().invoke(cli, ["eval", "import", str(tmp_path / name), "--from", form, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert [each.label for each in read_suite(out).measured_by] == metrics
    assert yaml.safe_load(out.read_text())["suite"] == "s"
