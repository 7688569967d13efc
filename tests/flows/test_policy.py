"""Policies with conditions hold releases back, explain themselves, and are tested in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from interlock.app import open_app
from interlock.cli.root import cli
from interlock.core.errors import Blocked, InvalidInput
from interlock.testing.workspaces import write_workspace

CONDITION = {
    "name": "exact enough",
    "that": 'evidence.evaluation.kindness.verdict == "pass" && evidence.evaluation.kindness.mean.exact >= 0.95',
    "hint": "interlock gate --app helper --run",
}
SUITE = {
    "suite": "kindness",
    "cases": [{"id": f"c{n}", "input": f"word {n}", "expected": f"It is word {n}"} for n in range(40)],
    "metrics": ["exact"],
    "gate": {"rules": [{"metric": "exact", "at_least": 0.8}]},
}


def workspace(folder: Path, condition: dict[str, Any] = CONDITION) -> Path:
    app = {"route": {"targets": ["scripted/m"]}, "channels": {"prod": {"conditions": [condition]}}}
    script = [{"match_system": "rude", "match": "7$", "reply": "no"}, {"reply": "It is {question}"}]
    root = write_workspace(
        folder,
        settings={"gateway": {"providers": {"scripted": {"kind": "scripted", "script": script}}, "detect": False}},
        apps={"helper": app},
        prompt="Be kind.",
    )
    (root / "apps" / "helper" / "evals").mkdir()
    (root / "apps" / "helper" / "evals" / "kindness.yaml").write_text(json.dumps(SUITE))
    return root


def run(root: Path, *command: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["-w", str(root), *command])
    assert done.exit_code == code, done.output
    # The program itself prints it.
    return done.output + ("" if isinstance(done.exception, SystemExit | None) else str(done.exception))


@pytest.mark.anyio
async def test_a_release_is_blocked_until_its_conditions_hold(tmp_path: Path) -> None:
    root = workspace(tmp_path)
    async with open_app(root) as app:
        release = (await app.parts.releases.freeze(app.owner(), "helper")).id
        with pytest.raises(
            Blocked, match=r"exact enough: it reads evidence\.evaluation\.kindness\.verdict, which is not"
        ):
            await app.parts.releases.point(app.owner(), "helper", "prod", release)


def test_explain_shows_what_a_condition_read(tmp_path: Path) -> None:
    root = workspace(tmp_path)
    assert "which is not there yet" in run(root, "policy", "explain", "--app", "helper")
    # A policy that names no suites runs those that have a gate.
    assert "gate: pass" in run(root, "gate", "--app", "helper", "--run", "-q")
    told = run(root, "policy", "explain", "--app", "helper")
    assert "evidence.evaluation.kindness.mean.exact is 1" in told
    assert CONDITION["that"] in told
    (root / "apps" / "helper" / "prompt.md").write_text("Be rude.")
    run(root, "gate", "--app", "helper", "--run", "-q", code=5)
    failed = json.loads(run(root, "policy", "explain", "--app", "helper", "--json"))
    assert failed["verdict"] == "fail"
    assert "mean.exact is 0.9" in failed["demands"][-1]["why"]


def test_policies_are_tested_in_files(tmp_path: Path) -> None:
    root = workspace(tmp_path)
    good = {"kind": "evaluation", "name": "kindness", "summary": {"mean.exact": 0.97}}
    tests = [
        {"name": "a good run goes out", "evidence": [good], "expect": "pass", "unmet": []},
        {"name": "nothing shown", "expect": "not_enough_evidence", "unmet": ["exact enough"]},
        {"name": "too old", "evidence": [{**good, "age_days": 40}], "expect": "not_enough_evidence"},
        {"name": "a run that failed", "evidence": [{**good, "verdict": "fail"}], "expect": "fail"},
    ]
    file = root / "apps" / "helper" / "policy.tests.yaml"
    file.write_text(yaml.safe_dump({"tests": tests}))
    assert "4 of 4 passed" in run(root, "policy", "test", "--app", "helper")
    tests.append({"name": "wrongly expected", "evidence": [good], "expect": "fail"})
    file.write_text(yaml.safe_dump({"tests": tests}))
    told = run(root, "policy", "test", "--app", "helper", code=1)
    assert "4 of 5 passed" in told
    assert "it says pass, not fail" in told
    file.write_text(yaml.safe_dump({"tests": [{"name": "x", "expect": "pas"}]}))
    assert "tests.0.expect" in run(root, "policy", "test", "--app", "helper", code=1)


def test_a_condition_that_is_no_cel_is_refused_when_the_file_is_read(tmp_path: Path) -> None:
    root = workspace(tmp_path, {"name": "broken", "that": "evidence.evaluation.kindness.verdict = 1"})
    told = run(root, "gate", "--app", "helper", code=1)
    assert "channels.prod.conditions.0.that" in told
    assert "line 1, column" in told


def test_the_workspaces_conditions_hold_for_every_app(tmp_path: Path) -> None:
    root = workspace(tmp_path)
    settings = yaml.safe_load((root / "interlock.yaml").read_text())
    settings["releases"] = {
        "channels": {"prod": {"conditions": [{"name": "signed", "that": "size(evidence.sign_offs) > 0"}]}}
    }
    (root / "interlock.yaml").write_text(yaml.safe_dump(settings))
    told = run(root, "policy", "explain", "--app", "helper")
    assert "signed" in told
    assert "exact enough" in told


def test_what_cannot_be_read_says_so() -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        from interlock.flows.policy import read_tests

        read_tests(Path("nowhere/policy.tests.yaml"))
