"""Tests beside prompts: renderings and cases, on the command line, in CI's own form, and at the gate."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.testing.workspaces import write_workspace

from .commands import Run, runner

PROMPT = """---
variables:
  plan: {type: enum, values: [free, pro]}
  order: {type: object, required: false}
examples: {file: shots.jsonl, select: first, count: 1}
---
# Task
You help on the {{ plan }} plan.
{% if order %}{{ order | context("order") }}{% endif %}

# Rules
Be kind.
"""
TESTS: dict[str, Any] = {
    "tests": [
        {
            "name": "pro with an order",
            "variables": {"plan": "pro", "order": {"id": 7}},
            "expect": {
                "contains": ["pro plan", "<id>7</id>"],
                "absent": ["free"],
                "matches": [r"on the \w+ plan"],
                "max_tokens": 60,
                "sections": ["# Task", "<order>", "# Rules"],
                "examples": 1,
                "variant": "default",
            },
        },
        {
            "name": "small models get less",
            "model": "small/m",
            "variables": {"plan": "pro"},
            "expect": {"variant": "small", "max_tokens": 20},
        },
        {"name": "no plan", "expect": {"refused": "plan"}},
        {"name": "a wrong one", "variables": {"plan": "x"}, "expect": {"refused": "wrong_variable"}},
    ],
    "ask": {
        "cases": [
            {"id": "pro", "input": "which?", "variables": {"plan": "pro"}, "expected": "You are a pro."},
            {"id": "free", "input": "which?", "variables": {"plan": "free"}, "expected": "You are free."},
        ],
        "metrics": ["exact", "latency"],
    },
}
SCRIPT = [{"match_system": "pro plan", "reply": "You are a pro."}, {"reply": "You are free."}]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    providers = {name: {"kind": "scripted", "script": SCRIPT} for name in ("scripted", "small")}
    root = write_workspace(
        tmp_path / "w",
        settings={"gateway": {"providers": providers, "detect": False}},
        apps={
            "helper": {"route": {"targets": ["scripted/m"], "retries": 0}},
            "plain": {"route": {"targets": ["small/m"]}},
        },
    )
    home = root / "apps" / "helper"
    (home / "prompt.md").write_text(PROMPT)
    (home / "prompt.small.md").write_text("---\nmodels: [small/*]\n---\nThe {{ plan }} plan.")
    (home / "shots.jsonl").write_text('{"input": "hi", "output": "hello"}\n{"input": "a", "output": "b"}\n')
    write(root, TESTS)
    return root


def write(at: Path, tests: Any) -> None:
    (at / "apps" / "helper" / "prompt.tests.yaml").write_text(yaml.safe_dump(tests))


def only(expect: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"tests": [{"name": "it", "variables": {"plan": "pro"}, **fields, "expect": expect}]}


def test_renderings_and_cases_pass_and_are_told_to_ci(at: Path, run: Run, tmp_path: Path) -> None:
    report = tmp_path / "junit.xml"
    done = run(at, "prompt", "test", "--json", "--junit", report)
    assert done.code == 0, done.out
    [told] = done.json
    assert [(each["kind"], each["passed"]) for each in told["tests"]] == [("rendering", True)] * 4 + [
        ("case", True)
    ] * 2
    assert run(at, "eval", "show", told["run"]).code == 0
    root = ET.parse(report).getroot()
    assert (root.get("tests"), root.get("failures")) == ("6", "0")
    (at / "apps" / "helper" / "prompt.md").write_text(PROMPT.replace("pro", "premium").replace("Be kind.", "Be free."))
    done = run(at, "prompt", "test", "helper", "--junit", report)
    assert done.code == 5
    assert "FAILED  rendering  pro with an order" in done.out
    assert "FAILED  case  cases" in done.out and "the case 'pro': the variable 'plan' is one of" in done.out
    root = ET.parse(report).getroot()
    assert int(root.get("failures") or 0) == 3
    failure = root.find(".//failure")
    assert failure is not None and failure.get("message")


FAILING = [
    (only({"contains": ["nothing like it"]}), "does not contain 'nothing like it'"),
    (only({"absent": ["Be kind"]}), "contains 'Be kind'"),
    (only({"matches": ["^x$"]}), "nothing matches '^x$'"),
    (only({"max_tokens": 3}), "3 at most are asked for"),
    (only({"variant": "small"}), "the text 'default' is sent, and not 'small'"),
    (only({"examples": 2}), "shows 1 examples, and not 2"),
    (only({"sections": ["# Rules", "# Task"]}), "the section '# Task' stands in another place"),
    (only({"sections": ["# Tasks"]}), "the section '# Tasks' is missing"),
    (only({"refused": "plan"}), "is taken, and 'plan' is to be refused"),
    (only({"contains": ["Be"]}, variables={}), "cannot be rendered: the variable 'plan' is missing"),
    (only({"refused": "order"}, variables={}), "cannot be rendered: the variable 'plan' is missing"),
]


@pytest.mark.parametrize(("tests", "said"), FAILING)
def test_what_is_not_as_it_has_to_be_is_said(at: Path, run: Run, tests: Any, said: str) -> None:
    write(at, tests)
    done = run(at, "prompt", "test", "helper")
    assert done.code == 5 and said in done.out


def test_a_case_that_is_answered_wrongly_or_not_at_all_fails(at: Path, run: Run) -> None:
    cases = [
        {"id": "wrong", "input": "x", "variables": {"plan": "free"}, "expected": "You are a pro."},
        {"id": "right", "input": "x", "variables": {"plan": "pro"}, "expected": "You are a pro."},
    ]
    write(at, {"ask": {"cases": cases, "metrics": ["exact", {"metric": "injection_followed"}, "latency"]}})
    done = run(at, "prompt", "test", "helper", "--json")
    assert done.code == 5
    failed = {each["name"]: each["failures"] for each in done.json[0]["tests"]}
    assert failed["right"] == [] and failed["wrong"] and failed["wrong"][0].startswith("exact is 0")
    unlooked = run(at, "prompt", "test", "helper", "--no-ask")
    assert unlooked.code == 3 and "leave out --no-ask" in unlooked.err
    write(at, {"ask": {"cases": cases, "metrics": ["exact"], "at_least": 0}})
    assert run(at, "prompt", "test", "helper").code == 0
    gate = {"rules": [{"metric": "exact", "at_least": 0.9}]}
    write(at, {"ask": {"cases": cases, "metrics": ["exact"], "gate": gate}})
    done = run(at, "prompt", "test", "helper", "--json")
    assert (done.code, done.json[0]["tests"][0]["kind"]) == (5, "gate")


def test_a_case_that_no_metric_could_judge_fails(at: Path, run: Run) -> None:
    case = {"id": "a", "input": "hi", "variables": {"plan": "pro"}}
    write(at, {"ask": {"cases": [case], "metrics": ["exact", "latency"]}})
    done = run(at, "prompt", "test", "helper", "--json")
    assert done.code == 5
    assert done.json[0]["tests"][0]["failures"][0].startswith("nothing could be measured")
    assert run(at, "gate", "--app", "helper", "--run", "-q").code == 5
    gate = {"rules": [{"metric": "exact", "at_least": 0.9}]}
    write(at, {"ask": {"cases": [case], "metrics": ["exact"], "gate": gate}})
    assert run(at, "prompt", "test", "helper").code == 5


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ({"tests": [{"name": "a", "expect": {"contain": ["x"]}}]}, "tests.0.expect.contain"),
        ({"tests": [{"name": "a", "expect": {"matches": ["("]}}]}, "no regular expression"),
        ({"tests": [only({"examples": 1})["tests"][0]] * 2}, "two tests are called 'it'"),
        (only({}), "tests.0.expect"),
        (only({"contains": []}), "says nothing that has to hold"),
        ({"tests": []}, "it tests nothing"),
        ({}, "it tests nothing"),
        ({"ask": {"cases": [{"id": "a", "input": "x"}], "metrics": ["latency"]}}, "ask.metrics"),
        ({"ask": {"cases": [{"id": "a"}], "metrics": ["exact"]}}, "ask.cases.0.input"),
        (
            {"ask": {"cases": [{"id": "a", "input": "x"}], "metrics": ["exact"], "app": "plain"}},
            "does not use the prompt",
        ),
        ({"ask": {"cases": [{"id": "a", "input": "x"}], "metrics": ["exact"], "at_least": 2}}, "at_least lies between"),
    ],
)
def test_a_faulty_file_of_tests_is_refused_and_never_passes(at: Path, run: Run, tests: Any, said: str) -> None:
    write(at, tests)
    done = run(at, "prompt", "test", "helper")
    assert done.code == 1 and said in done.err, done.err


def test_prompts_without_tests_are_passed_over_and_named_when_asked_for(at: Path, run: Run) -> None:
    assert run(at, "prompt", "test", "plain").code == 3
    assert [each["prompt"] for each in run(at, "prompt", "test", "--json", "--no-ask").json] == ["helper"]


def test_the_gate_runs_them_on_exactly_its_release(at: Path, run: Run) -> None:
    passing = run(at, "gate", "--app", "helper", "--run", "-q", "--json")
    assert passing.code == 0, passing.err
    assert [(each["demand"], each["state"]) for each in passing.json["demands"]] == [
        ("tests of the prompt 'helper'", "met")
    ]
    good = run(at, "release", "build", "--app", "helper", "--json").json["id"]
    (at / "apps" / "helper" / "prompt.md").write_text(PROMPT.replace("# Rules", "# Manners"))
    file = at / "apps" / "helper" / "app.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "channels": {"prod": {"prompt_tests": True}}}))
    asked = run(at, "gate", "--app", "helper", "--json")
    assert (asked.code, asked.json["demands"][0]["state"]) == (6, "open")
    failing = run(at, "gate", "--app", "helper", "--run", "-q", "--json")
    assert failing.code == 5
    assert "first 'pro with an order'" in failing.json["demands"][0]["why"]
    bad = run(at, "release", "build", "--app", "helper", "--json").json["id"]
    refused = run(at, "release", "point", bad, "--app", "helper", "--channel", "prod")
    assert refused.code == 4 and "tests of the prompt" in refused.err
    assert run(at, "gate", "--app", "helper", "--release", good, "--run", "-q").code == 0
    assert run(at, "release", "point", good, "--app", "helper", "--channel", "prod").code == 0
