"""Programs and functions of one's own as targets, run as a person runs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.evals.suites import questions, write_suite
from tests.flows.commands import Done, Run, runner

from interlock.core.errors import InvalidInput
from interlock.evals.targets import targets
from interlock.evals.targets.http import HttpTarget
from interlock.evals.types import Case
from interlock.testing.upstream import Reply, fake_upstream

pytestmark = pytest.mark.anyio
GATE = {"rules": [{"metric": "exact", "at_least": 0.5}]}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def evaluated(run: Run, at: Path, target: str, *more: str, **fields: Any) -> Done:
    suite = write_suite(at, questions(20, **fields), gate=GATE)
    return run(at, "eval", "run", suite, "--target", target, "-q", "--json", *more)


@pytest.mark.parametrize("head", ["def leave(case):", "async def leave(case):"])
@pytest.mark.parametrize("more", [(), ("--executor", "processes", "--workers", "1")])
def test_a_function_that_exits_has_failed_its_case(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, head: str, more: tuple[str, ...]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    name = f"leaves_{len(more)}_{head.partition(' ')[0]}"
    (tmp_path / f"{name}.py").write_text(f"{head}\n    raise SystemExit(0)\n")
    done = evaluated(run, tmp_path, f"python:{name}:leave", *more)
    assert done.code == 5, done.err
    assert (done.json["failed"], done.json["gate"]["verdict"]) == (20, "fail")


@pytest.mark.parametrize("more", [(), ("--executor", "processes", "--workers", "1")])
def test_a_module_that_exits_when_it_is_imported_is_refused(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leaves_at_once.py").write_text("import sys\nsys.exit(0)\n")
    done = evaluated(run, tmp_path, "python:leaves_at_once:answer", *more)
    assert done.code == 1
    assert "'leaves_at_once' ends the process when it is imported" in done.json["error"]["message"]
    with pytest.raises(InvalidInput) as caught:
        targets.get("python").open("leaves_at_once:answer", {})
    assert caught.value.param == "target"


def test_a_program_need_not_read_what_it_is_told(tmp_path: Path, run: Run) -> None:
    done = evaluated(run, tmp_path, "command:echo 4", context=["long " * 50_000])
    assert done.code == 5, done.err
    assert (done.json["executions"], done.json["failed"]) == (20, 0)
    assert next(each["mean"] for each in done.json["metrics"] if each["name"] == "exact") == pytest.approx(1 / 20)


def test_a_program_that_tells_a_negative_cost_has_given_no_answer(tmp_path: Path, run: Run) -> None:
    (tmp_path / "pays.py").write_text(f"print({json.dumps(json.dumps({'text': '4', 'cost_nano': -(10**12)}))})")
    done = evaluated(run, tmp_path, f"command:{sys.executable} {tmp_path / 'pays.py'}")
    assert (done.json["failed"], done.json["cost_nano"]) == (20, 0)


@pytest.mark.parametrize(
    "more",
    [
        {"interlock": {"cost_usd": -1}},
        {"interlock": {"cost_usd": "inf"}},
        {"usage": {"prompt_tokens": -3}},
        {"usage": {"completion_tokens": "many"}},
    ],
)
async def test_a_server_that_tells_impossible_figures_has_given_no_answer(more: dict[str, Any]) -> None:
    async with fake_upstream() as upstream:
        body = json.dumps({"choices": [{"message": {"content": "4"}}], **more}).encode()
        upstream.replies = [Reply([body])]
        target = HttpTarget(upstream.url, {"model": "m"})
        try:
            output = await target.run(Case(id="c", input="x"), 0)
        finally:
            await target.close()
    assert (output.error, output.text, output.cost_nano) == ("unreadable_reply", "", None)
