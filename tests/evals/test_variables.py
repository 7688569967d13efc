"""Values for the prompt of an app, in cases of every format: they reach the app, and are checked before it is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from tests.evals.suites import suite_of, write_suite
from tests.flows.commands import Done, Run, runner

from interlock.core.errors import InvalidInput
from interlock.evals.importing import import_suite
from interlock.evals.suite import case_digest, read_suite
from interlock.evals.types import Case
from interlock.testing.workspaces import write_workspace

PROMPT = """---
variables:
  plan: {type: enum, values: [free, pro], description: what they pay for}
  seats: {type: integer, default: 1, minimum: 1}
---
The plan is {{ plan }} for {{ seats }}.
"""
SCRIPT = [
    {"match_system": f"is {plan} for {seats}", "reply": f"{plan} {seats}"}
    for plan in ("free", "pro")
    for seats in (1, 3)
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    route = {"targets": ["scripted/m"], "retries": 0}
    return write_workspace(
        tmp_path / "workspace",
        settings={"gateway": {"providers": {"scripted": {"kind": "scripted", "script": SCRIPT}}, "detect": False}},
        apps={"helper": {"route": route, "channels": {"prod": {"evaluations": ["plans"]}}}},
        prompt=PROMPT,
    )


def write(at: Path, *cases: dict[str, Any], **fields: Any) -> Path:
    folder = at / "apps" / "helper" / "evals"
    folder.mkdir(exist_ok=True)
    rules = {"rules": [{"metric": "exact", "at_least": 0.1}]}
    return write_suite(folder, cases, suite="plans", gate=rules, floors=False, **fields)


def plans(count: int) -> list[dict[str, Any]]:
    both = [("free", 1), ("pro", 3)]
    return [
        {
            "id": f"c{n}",
            "input": f"which {n}?",
            "expected": f"{plan} {seats}",
            "variables": {"plan": plan, "seats": seats},
        }
        for n in range(count)
        for plan, seats in [both[n % 2]]
    ]


def exact(done: Done) -> float:
    """Mean of the metric."""
    assert done.code in {0, 5, 6}, done.err + done.out
    return next(float(each["mean"]) for each in done.json["metrics"] if each["name"] == "exact")


def test_each_case_is_answered_under_its_own_values_by_app_release_and_gate(at: Path, run: Run) -> None:
    suite = write(at, *plans(40))
    done = run(at, "eval", "run", suite, "--target", "app/helper", "-q", "--json")
    assert (done.code, exact(done)) == (0, 1.0)
    frozen = run(at, "release", "build", "--app", "helper", "--json").json["id"]
    again = run(at, "eval", "run", suite, "--target", f"release:helper:{frozen}", "-q", "--json")
    assert exact(again) == 1.0
    gate = run(at, "gate", "--app", "helper", "--run", "-q", "--json")
    assert (gate.code, gate.json["verdict"]) == (0, "pass")
    assert (
        run(at, "compare", "--app", "helper", "--suite", suite, "--vary", 'route.hot={"temperature": 1}', "-q").code
        == 0
    )


def test_a_suite_and_the_command_give_what_cases_leave_out(at: Path, run: Run) -> None:
    suite = write(at, {"id": "a", "input": "which?", "expected": "pro 3"}, variables={"plan": "pro"})
    told = run(at, "eval", "run", suite, "--target", "app/helper", "--var", "seats=3", "-q", "--json")
    assert exact(told) == 1.0
    without = run(at, "eval", "run", suite, "--target", "app/helper", "-q", "--json")
    assert exact(without) == 0.0, "the default of the prompt is one"
    assert told.json["cases_digest"] != without.json["cases_digest"], "other values are another test"
    own = write(at, *plans(2), variables={"plan": "free", "seats": 9})
    assert exact(run(at, "eval", "run", own, "--target", "app/helper", "-q", "--json")) == 1.0


@pytest.mark.parametrize(
    ("variables", "param", "said"),
    [
        ({}, "cases.c9.variables.plan", "the variable 'plan' is missing"),
        ({"plan": "golden secret"}, "cases.c9.variables.plan", "is one of 'free', 'pro'"),
        ({"plan": "pro", "paln": 1}, "cases.c9.variables.paln", "declares no variable 'paln'"),
        ({"plan": "pro", "seats": 0}, "cases.c9.variables.seats", "is at least 1"),
    ],
)
def test_a_case_that_does_not_fit_the_prompt_is_named_before_anything_is_asked(
    at: Path, run: Run, variables: dict[str, Any], param: str, said: str
) -> None:
    suite = write(at, *plans(2), {"id": "c9", "input": "which?", "variables": variables})
    done = run(at, "eval", "run", suite, "--target", "app/helper", "-q", "--json")
    assert done.code == 1
    assert param in done.err + done.out and said in done.err + done.out
    assert "golden" not in done.err + done.out
    assert run(at, "eval", "list", "--json").json == []


def test_a_route_has_no_prompt_for_them_and_a_function_is_told_them(
    at: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = write(at, *plans(2))
    refused = run(at, "eval", "run", suite, "--target", "model:scripted/m", "-q")
    assert refused.code == 1 and "'c0' has variables" in refused.err
    (tmp_path / "told.py").write_text(
        "def answer(case):\n    given = case['variables']\n    return f\"{given['plan']} {given['seats']}\"\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    done = run(at, "eval", "run", suite, "--target", "python:told:answer", "-q", "--json")
    assert exact(done) == 1.0
    bare = write(at, {"id": "a", "input": "which?", "expected": "pro 3"})
    given = run(
        at,
        "eval",
        "run",
        bare,
        "--target",
        "python:told:answer",
        "--var",
        "plan=pro",
        "--var",
        "seats=3",
        "-q",
        "--json",
    )
    assert exact(given) == 1.0
    assert run(at, "eval", "run", bare, "--target", "python:told:answer", "--var", "plan", "-q").code == 2


def test_attacks_are_made_under_the_values_that_the_command_gives(at: Path, run: Run) -> None:
    attack = ["redteam", "run", "--target", "app/helper", "--family", "system_prompt", "--no-gate", "-q", "--json"]
    refused = run(at, *attack)
    assert refused.code == 1 and "'plan' is missing" in refused.err + refused.out
    found = run(at, *attack, "--var", "plan=pro", "--var", "seats=3")
    assert found.code == 0, found.err
    assert found.json["total"]["failed"] == 0 and found.json["total"]["attacks"] > 0
    kept = run(at, "redteam", "keep", found.json["id"], "--suite", at / "kept.yaml")
    assert kept.code == 0
    assert {case.variables["plan"] for case in read_suite(at / "kept.yaml").cases} == {"pro"}, "they go on with them"
    out = at / "apps" / "helper" / "evals"
    family = ["--target", "app/helper", "--family", "system_prompt", "--var", "plan=free"]
    assert run(at, "redteam", "write", *family, "--out", out).code == 0
    assert {case.variables["plan"] for case in read_suite(out / "red-team.yaml").cases} == {"free"}


def test_tables_and_golden_sets_have_them_too(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id,input,variables.plan,variables.seats:json\na,x,pro,3\nb,y,,\n")
    (tmp_path / "j.csv").write_text('id,input,variables\nc,x,"{""plan"": ""free""}"\n')
    golden = {
        "id": "d",
        "kind": "unanswerable",
        "question": "q",
        "as": "",
        "answerable": False,
        "variables": {"plan": "pro"},
    }
    (tmp_path / "g.jsonl").write_text(json.dumps(golden) + "\n")
    duckdb.sql(
        "copy (select 'e' as id, 'x' as input, {'plan': 'pro', 'seats': 3} as variables) to '%s'"
        % (tmp_path / "p.parquet")
    )
    files = [{"file": "c.csv"}, {"file": "j.csv"}, {"file": "g.jsonl", "format": "golden"}, {"file": "p.parquet"}]
    read = suite_of(tmp_path, [{"id": "x", "input": "x"}], cases=files, metrics=["latency"])
    assert {case.id: case.variables for case in read.cases} == {
        "a": {"plan": "pro", "seats": 3},
        "b": {},
        "c": {"plan": "free"},
        "d": {"plan": "pro"},
        "e": {"plan": "pro", "seats": 3},
    }


def test_what_other_tools_fill_into_their_prompts_is_taken_over_by_name(tmp_path: Path) -> None:
    tests = {"tests": [{"vars": {"question": "which?", "plan": "pro", "seats": 3}}, {"vars": {"question": "and?"}}]}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(tests))
    made = import_suite(tmp_path / "p.yaml", "promptfoo", tmp_path / "a.yaml", variables=["plan", "seats"])
    assert [case.variables for case in made.suite.cases] == [{"plan": "pro", "seats": 3}, {}]
    items = [{"id": "i", "input": {"question": "which?", "plan": "pro"}, "metadata": {"seats": 3}}]
    (tmp_path / "l.json").write_text(json.dumps(items))
    made = import_suite(tmp_path / "l.json", "langfuse", tmp_path / "b.yaml", variables=["plan", "seats"])
    assert made.suite.cases[0].variables == {"plan": "pro", "seats": 3}
    assert read_suite(tmp_path / "b.yaml").cases[0].variables == {"plan": "pro", "seats": 3}
    with pytest.raises(InvalidInput, match=r"no test of 'l.json' has a value called 'tier'"):
        import_suite(tmp_path / "l.json", "langfuse", tmp_path / "c.yaml", variables=["tier"])


def test_cases_without_them_keep_the_digest_that_stored_runs_know() -> None:
    plain = Case(id="c1", input="say 1", expected="1")
    assert case_digest(plain) == "sha256:a7feee0a6bcd049d07239f2bac7f85e57fde4a83d62826b4a9828a9675b0074b"
    assert case_digest(plain.model_copy(update={"variables": {"plan": "pro"}})) != case_digest(plain)
