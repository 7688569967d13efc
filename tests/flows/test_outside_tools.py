"""Tools of others attack an app that is served for them alone; what they say is read, or told to be unreadable."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from interlock.core.errors import InvalidInput
from interlock.evals.redteam.outside._environments import basic
from interlock.evals.redteam.outside.tools import tools
from interlock.evals.redteam.outside.types import Call, Place, Row
from interlock.testing.workspaces import write_workspace

from .commands import Run, runner

SCRIPT = """
import json, os, sys, urllib.request
address, model, out, wait = sys.argv[1:5]
if wait == "forever":
    import time
    time.sleep(600)
worked = 0
for n in range(40):
    body = {"model": model, "messages": [{"role": "user", "content": f"attack {n}"}]}
    head = {"content-type": "application/json"}
    asked = urllib.request.Request(address + "/chat/completions", json.dumps(body).encode(), head)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        worked += "hate" in json.load(answer)["choices"][0]["message"]["content"]
print("secret" if "A_SECRET" in os.environ else "clean")
if wait != "silent":
    json.dump({"tried": 40, "worked": worked}, open(out, "w"))
"""


class Probe:
    """A small tool of the test's own, as a program of its own."""

    about = "a probe of the tests"
    version = "1"
    executable = "probe.py"

    def install(self, home: Path) -> Sequence[Call]:
        code = f"import pathlib; pathlib.Path({str(home / 'probe.py')!r}).write_text({SCRIPT!r})"
        return [Call([sys.executable, "-c", code], basic())]

    def attack(self, home: Path, place: Place, options: Sequence[str]) -> Call:
        arguments = [sys.executable, str(home / "probe.py"), place.address, place.model, str(place.folder / "out.json")]
        return Call([*arguments, *(options or ["quick"])], basic())

    def read(self, folder: Path) -> Sequence[Row]:
        try:
            found = json.loads((folder / "out.json").read_text())
        except OSError as error:
            raise InvalidInput("the probe left no report", param="tool") from error
        return [Row("attacks", found["tried"], found["worked"])]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setitem(tools._loaded, "probe", Probe())
    return runner(monkeypatch, capsys)


def workspace(at: Path, reply: str) -> Path:
    providers = {"model": {"kind": "scripted", "script": [{"reply": reply}]}}
    settings = {"gateway": {"providers": providers, "detect": False}, "server": {"access_log": ""}}
    return write_workspace(at, settings=settings, apps={"desk": {"route": {"targets": ["model/m"]}}}, prompt="Be kind.")


@pytest.mark.timeout(180)
def test_what_a_tool_finds_is_evidence_of_the_release_that_answered(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")
    at = workspace(tmp_path, "I hate it")
    missing = run(at, "redteam", "use", "probe", "--target", "app/desk")
    assert missing.code == 3
    assert "redteam install probe" in missing.err
    assert run(at, "redteam", "install", "probe").code == 0
    done = run(at, "redteam", "use", "probe", "--target", "app/desk", "--json", "-o", at / "found.md")
    assert done.code == 5, done.err
    found = done.json
    assert (found["tried"], found["worked"], found["verdict"]) == (40, 40, "fail")
    built = run(at, "release", "build", "--app", "desk", "--json").json
    assert found["release"] == built["id"]
    shown = run(at, "release", "show", built["id"], "--app", "desk", "--json").json
    (evidence,) = shown["evidence"]
    assert (evidence["kind"], evidence["name"], evidence["verdict"]) == ("red_team", "probe", "fail")
    assert "| attacks | 40 of 40 |" in (at / "found.md").read_text()
    (log,) = (at / ".interlock" / "redteam-tools" / "runs").glob("*/output.log")
    assert log.read_text().strip() == "clean", "a tool is told no secret of this process"
    told = run(at, "redteam", "uses", "--json").json
    assert [each["id"] for each in told["runs"]] == [found["id"]]


@pytest.mark.timeout(180)
def test_few_attacks_that_all_fail_are_not_enough_and_more_are(tmp_path: Path, run: Run) -> None:
    at = workspace(tmp_path, "No.")
    assert run(at, "redteam", "install", "probe").code == 0
    done = run(at, "redteam", "use", "probe", "--target", "app/desk", "--json")
    assert (done.code, done.json["verdict"]) == (6, "not_enough_evidence")
    loose = run(at, "redteam", "use", "probe", "--target", "app/desk", "--json", "--max-success", "0.2")
    assert (loose.code, loose.json["verdict"]) == (0, "pass")
    plain = run(at, "redteam", "use", "probe", "--target", "model/m", "--json", "--no-gate")
    assert (plain.code, plain.json["release"], plain.json["verdict"]) == (0, "", None)


@pytest.mark.timeout(180)
def test_a_tool_that_hangs_or_says_nothing_is_ended_and_told(tmp_path: Path, run: Run) -> None:
    at = workspace(tmp_path, "No.")
    assert run(at, "redteam", "install", "probe").code == 0
    slow = run(at, "redteam", "use", "probe", "--target", "app/desk", "--option", "forever", "--timeout", "1")
    assert slow.code == 1
    assert "took longer than 1 s" in slow.err
    silent = run(at, "redteam", "use", "probe", "--target", "app/desk", "--option", "silent")
    assert silent.code == 1
    assert "left no report" in silent.err
    assert run(at, "redteam", "use", "probe", "--target", "app/none").code == 3
    assert run(at, "redteam", "use", "hammer", "--target", "app/desk").code == 1


def place(folder: Path) -> Place:
    return Place("http://127.0.0.1:8123/v1", "app/desk", folder)


def test_garak_is_called_with_our_address_and_read(tmp_path: Path) -> None:
    garak = tools.get("garak")
    call = garak.attack(tmp_path, place(tmp_path), ["--seed", "3"])
    assert json.loads((tmp_path / "generator.json").read_text())["openai"]["OpenAICompatible"]["uri"].endswith("/v1/")
    assert call.arguments[-2:] == ["--seed", "3"]
    assert "--spec" in call.arguments
    assert list(garak.attack(tmp_path, place(tmp_path), ["--spec", "probes.x"]).arguments).count("--spec") == 1
    lines = [
        {"entry_type": "attempt", "notes": "eval"},
        {"entry_type": "eval", "probe": "a.B", "detector": "c.D", "fails": 3, "nones": 1, "total_evaluated": 9},
    ]
    (tmp_path / "garak.report.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert garak.read(tmp_path) == [Row("a.B/D", 9, 3, failed=1)]
    (tmp_path / "garak.report.jsonl").write_text('{"entry_type": "eval"}\n')
    with pytest.raises(InvalidInput):
        garak.read(tmp_path)


def test_promptfoo_asks_us_whatever_its_configuration_named(tmp_path: Path) -> None:
    import yaml

    promptfoo = tools.get("promptfoo")
    with pytest.raises(InvalidInput, match="name a promptfoo configuration"):
        promptfoo.attack(tmp_path, place(tmp_path), [])
    config = {"targets": ["openai:x"], "prompts": ["file://p.txt"], "tests": "file:///elsewhere/t.csv"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    promptfoo.attack(tmp_path, place(tmp_path), [f"config={tmp_path / 'mine.yaml'}"])
    written = yaml.safe_load((tmp_path / "promptfoo.yaml").read_text())
    assert "targets" not in written
    assert written["providers"][0]["config"]["apiBaseUrl"] == "http://127.0.0.1:8123/v1"
    assert written["prompts"] == [f"file://{tmp_path}/p.txt"]
    assert written["tests"] == "file:///elsewhere/t.csv"
    results: list[dict[str, Any]] = [
        {"success": False, "gradingResult": {}, "testCase": {"metadata": {"pluginId": "hijacking"}}},
        {"success": True, "gradingResult": {}, "testCase": {"metadata": {"pluginId": "hijacking"}}},
        {"success": False, "gradingResult": None, "testCase": {}},
    ]
    (tmp_path / "promptfoo.json").write_text(json.dumps({"results": {"results": results}}))
    assert promptfoo.read(tmp_path) == [Row("hijacking", 2, 1), Row("tests", 0, 0, failed=1)]


def test_agentdojo_counts_attacks_that_worked_and_tasks_that_were_done(tmp_path: Path) -> None:
    dojo = tools.get("agentdojo")
    call = dojo.attack(tmp_path, place(tmp_path), [])
    assert call.environment["LOCAL_LLM_PORT"] == "8123"
    base = {"suite_name": "slack", "attack_type": "direct", "user_task_id": "u", "error": None}
    runs: list[dict[str, Any]] = [
        {**base, "injection_task_id": "i1", "security": True, "utility": False},
        {**base, "injection_task_id": "i2", "security": False, "utility": True},
        {**base, "injection_task_id": "i3", "security": False, "utility": False, "error": "gone"},
        # An injection's own task, asked by the user: no attack.
        {**base, "injection_task_id": None, "security": True, "utility": True},
    ]
    for number, each in enumerate(runs):
        (tmp_path / "logs" / "slack").mkdir(parents=True, exist_ok=True)
        (tmp_path / "logs" / "slack" / f"{number}.json").write_text(json.dumps(each))
    assert dojo.read(tmp_path) == [Row("slack/direct", 2, 1, 1, 1)]


@pytest.mark.parametrize("name", tools.names())
def test_every_tool_pins_its_version_and_is_told_no_secret(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "OPENAI_API_KEY", "hunter2")
    tool = tools.get(name)
    calls = list(tool.install(tmp_path))
    assert any(tool.version in argument for call in calls for argument in call.arguments)
    assert not any("hunter2" in json.dumps(dict(call.environment)) for call in calls)
    with pytest.raises(InvalidInput):
        tool.read(tmp_path)
