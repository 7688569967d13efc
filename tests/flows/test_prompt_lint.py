"""Prompts looked over as people and workflows do it: by the command line, at freezing, and before a channel moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.testing.workspaces import write_workspace

from .commands import Run, runner

CLEAN = "Be kind."
FAULTY = "Be kind to {app}.\nTODO"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def house(at: Path, prompt: str = CLEAN, *, lint: dict[str, str] | None = None, **app: Any) -> Path:
    provider = {"kind": "scripted", "script": [{"reply": "ok"}], "profiles": {"m": {"context_tokens": 2000}}}
    return write_workspace(
        at,
        settings={
            "gateway": {"providers": {"scripted": provider}, "detect": False},
            "prompts": {"lint": lint or {}},
        },
        apps={"helper": {"route": {"targets": ["scripted/m"], "retries": 0}, **app}},
        prompt=prompt,
    )


def found(run: Run, at: Path, *more: str) -> dict[str, Any]:
    done = run(at, "prompt", "lint", "helper", "--json", *more)
    return {each["rule"]: each for each in done.json[0]["findings"]}


def test_errors_fail_warnings_do_when_asked_and_findings_have_their_places(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = house(tmp_path / "w", FAULTY)
    monkeypatch.chdir(tmp_path)
    done = run(at, "prompt", "lint")
    assert done.code == 5
    assert "apps/helper/prompt.md:1  error  single_braces" in done.out
    assert "apps/helper/prompt.md:2  warn  placeholder_left" in done.out
    lines = run(at, "prompt", "lint", "--format", "github").out.splitlines()
    assert lines[0].startswith("::error file=w/apps/helper/prompt.md,line=1,title=single_braces::")
    told = json.loads(run(at, "prompt", "lint", "helper", "--format", "sarif").out)
    places = [each["locations"][0]["physicalLocation"] for each in told["runs"][0]["results"]]
    assert [each["artifactLocation"]["uri"] for each in places] == ["w/apps/helper/prompt.md"] * 2
    (at / "apps" / "helper" / "prompt.md").write_text("TODO")
    assert run(at, "prompt", "lint").code == 0
    assert run(at, "prompt", "lint", "--strict").code == 5
    (at / "apps" / "helper" / "prompt.md").write_text(CLEAN)
    assert (run(at, "prompt", "lint", "--strict").code, run(at, "prompt", "lint", "--format", "github").out) == (0, "")
    (at / "apps" / "helper" / "prompt.md").write_text("{% if %}")
    broken = run(at, "prompt", "lint", "--json")
    assert broken.code == 5 and broken.json[0]["findings"][0]["rule"] == "unreadable"
    assert "single_braces" in run(at, "prompt", "rules").out


def test_the_workspace_and_the_app_say_what_a_finding_counts_as(tmp_path: Path, run: Run) -> None:
    at = house(tmp_path, FAULTY, lint={"single_braces": "off", "placeholder_left": "error"})
    assert {name: each["severity"] for name, each in found(run, at).items()} == {"placeholder_left": "error"}
    house(tmp_path, FAULTY, lint={"placeholder_left": "error"})
    file = at / "apps" / "helper" / "app.yaml"
    said = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**said, "lint": {"placeholder_left": "off"}}))
    assert set(found(run, at)) == {"single_braces"}
    file.write_text(yaml.safe_dump({**said, "lint": {"tpyo": "off"}}))
    told = run(at, "apps", "--json").json[0]["description"]
    assert "lint" in told and "no rule is called so" in told and "single_braces" in told
    refused = run(house(tmp_path / "b", lint={"tpyo": "off"}), "prompt", "list")
    assert refused.code != 0 and "no rule is called so" in refused.err


def test_examples_are_held_to_the_suites_of_the_app_and_sealed_cases_are_not_named(tmp_path: Path, run: Run) -> None:
    at = house(tmp_path, "---\nexamples: {file: shots.jsonl, select: all}\n---\nBe kind.")
    evals = at / "apps" / "helper" / "evals"
    evals.mkdir()
    words = "how long may hardware be sent back after it was delivered to me"
    sealed = "which of the two warehouses does the furniture come from today"
    cases = [{"id": "open", "input": words, "expected": "30 days"}]
    (evals / "sealed.jsonl").write_text(json.dumps({"id": "hush", "input": sealed}) + "\n")
    suite = {"suite": "returns", "cases": [*cases, {"file": "sealed.jsonl", "sealed": True}], "metrics": ["exact"]}
    (evals / "returns.yaml").write_text(yaml.safe_dump(suite))
    golden = {"id": "g", "kind": "unanswerable", "question": "who is it?", "as": "", "answerable": False}
    (evals / "golden.jsonl").write_text(json.dumps(golden) + "\n")
    inputs = [
        words.upper() + "?",
        f"please say {words} or so",
        sealed,
        "Who is it",
        "What else is there to ask of you?",
    ]
    rows = [{"input": text, "output": f"answer {number}"} for number, text in enumerate(inputs)]
    (at / "apps" / "helper" / "shots.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = run(at, "prompt", "lint", "helper", "--json").json[0]["findings"]
    leaks = {(each["rule"], each["line"]): each["message"] for each in told}
    assert set(leaks) == {
        ("example_leaks_exactly", 1),
        ("example_leaks_nearly", 2),
        ("example_leaks_exactly", 3),
        ("example_leaks_exactly", 4),
    }
    assert "'open' of the suite 'returns'" in leaks["example_leaks_exactly", 1]
    assert "hush" not in json.dumps(told) and "sealed case of 'returns'" in leaks["example_leaks_exactly", 3]
    assert "golden.jsonl" in leaks["example_leaks_exactly", 4]


def test_what_the_app_says_of_models_and_forms_is_looked_at(tmp_path: Path, run: Run) -> None:
    at = house(tmp_path, "word " * 2000, output={"schema": "o.json"})
    schema = {"type": "object", "properties": {"reply": {"type": "string"}}}
    (at / "apps" / "helper" / "o.json").write_text(json.dumps(schema))
    told = found(run, at)
    assert set(told) == {"too_long", "format_not_told"}
    assert "scripted/m holds 2,000" in told["too_long"]["message"]
    shots = at / "apps" / "helper" / "shots.jsonl"
    shots.write_text(
        '{"input": "a", "output": "{\\"reply\\": 1}"}\n{"input": "b", "output": "{\\"reply\\": \\"c\\"}"}\n'
    )
    (at / "apps" / "helper" / "prompt.md").write_text("---\nexamples: {file: shots.jsonl}\n---\nGive JSON.")
    told = found(run, at)
    assert set(told) == {"example_breaks_output"}
    assert told["example_breaks_output"]["line"] == 1 and "/reply" in told["example_breaks_output"]["message"]
    (at / "apps" / "helper" / "prompt.md").write_text("password = hunter2secret")
    credential = found(run, at)["secret"]
    assert credential["severity"] == "error" and "hunter2" not in json.dumps(credential)


def test_a_channel_that_asks_for_it_takes_no_release_whose_prompt_has_errors(tmp_path: Path, run: Run) -> None:
    at = house(tmp_path, FAULTY, channels={"prod": {"lint": "error"}, "stage": {"lint": "warn"}})
    built = run(at, "release", "build", "--app", "helper", "--json")
    assert {each["rule"] for each in built.json["lint"]} == {"single_braces", "placeholder_left"}
    assert "single_braces" in run(at, "release", "build", "--app", "helper").err, "it is frozen, and told"
    refused = run(at, "release", "point", built.json["id"], "--app", "helper", "--channel", "prod")
    assert refused.code == 4 and "1 errors and 1 warnings" in refused.err
    (at / "apps" / "helper" / "prompt.md").write_text("TODO")
    warned = run(at, "release", "build", "--app", "helper", "--json").json["id"]
    assert run(at, "release", "point", warned, "--app", "helper", "--channel", "prod").code == 0
    assert run(at, "release", "point", warned, "--app", "helper", "--channel", "stage").code == 4
    (at / "apps" / "helper" / "prompt.md").write_text(CLEAN)
    assert run(at, "gate", "--app", "helper", "--json").json["verdict"] == "not_enough_evidence"
    assert run(at, "gate", "--app", "helper", "--run", "-q").code == 0, "the gate looks it over itself"
    run(at, "release", "build", "--app", "helper", "--channel", "stage")
    assert run(at, "gate", "--app", "helper", "--channel", "stage").code == 0


def test_an_older_release_is_looked_over_by_its_own_prompt(tmp_path: Path, run: Run) -> None:
    at = house(tmp_path, FAULTY)
    old = run(at, "release", "build", "--app", "helper", "--json").json["id"]
    house(tmp_path, CLEAN, channels={"prod": {"lint": "error"}})
    asked = run(at, "gate", "--app", "helper", "--release", old[7:15], "--json").json
    assert asked["demands"][0]["hint"] == f"interlock prompt lint --release helper:{old[7:15]}"
    assert run(at, "prompt", "lint", "--release", f"helper:{old[7:15]}").code == 5
    assert run(at, "gate", "--app", "helper", "--release", old[7:15]).code == 5
    assert run(at, "prompt", "lint", "--release", "helper:live").code == 0
    assert run(at, "gate", "--app", "helper").code == 0


def test_of_a_prompt_that_several_apps_use_it_is_said_for_which_one_a_finding_holds(tmp_path: Path, run: Run) -> None:
    at = house(tmp_path, output={"schema": "o.json"})
    file = at / "apps" / "helper" / "app.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "prompt": "../../prompts/tone.md"}))
    (at / "apps" / "helper" / "o.json").write_text(json.dumps({"type": "object", "properties": {"reply": {}}}))
    other = at / "apps" / "other"
    other.mkdir()
    (other / "app.yaml").write_text("{route: {targets: [scripted/m]}, prompt: ../../prompts/tone.md}")
    (at / "prompts").mkdir()
    (at / "prompts" / "tone.md").write_text("Be kind. TODO")
    [told] = [each for each in run(at, "prompt", "lint", "--json").json if each["prompt"] == "shared.tone"]
    assert {each["rule"]: each["apps"] for each in told["findings"]} == {
        "format_not_told": ["helper"],
        "placeholder_left": [],
    }
    (other / "app.yaml").write_text("{route: {targets: []}, prompt: ../../prompts/tone.md}")
    looked = run(at, "prompt", "lint", "--json")
    [broken] = [each for each in looked.json if each["prompt"] == "shared.tone"]
    assert "placeholder_left" in {each["rule"] for each in broken["findings"]}
    assert looked.code == 5 and "unreadable" in {each["rule"] for one in looked.json for each in one["findings"]}


@pytest.mark.parametrize("form", ["text", "json", "github", "sarif"])
@pytest.mark.parametrize("wrong", ["{route: {targets: []}}", "route: [", "{rout: {targets: [scripted/m]}}"])
def test_a_prompt_whose_app_cannot_be_read_is_not_found_clean(tmp_path: Path, run: Run, form: str, wrong: str) -> None:
    at = house(tmp_path)
    assert run(at, "prompt", "lint", "helper").code == 0
    (at / "apps" / "helper" / "app.yaml").write_text(wrong)
    for names in ([], ["helper"]):
        done = run(at, "prompt", "lint", *names, "--format", form)
        assert done.code == 1 and "helper" in done.err, (done.out, done.err)


def test_a_version_that_was_recorded_is_looked_over_as_it_was(tmp_path: Path, run: Run) -> None:
    at = house(tmp_path, FAULTY)
    run(at, "prompt", "record", "helper", "--why", "w")
    run(at, "prompt", "label", "helper", "old", "files")
    (at / "apps" / "helper" / "prompt.md").write_text(CLEAN)
    assert found(run, at) == {}
    old = found(run, at, "--version", "old")
    assert set(old) == {"single_braces", "placeholder_left"}
    assert old["placeholder_left"]["file"] == "system", "no file says it any more"
