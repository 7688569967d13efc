from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from tests.evals.suites import Answering, questions, right, suite_of, write_suite

from interlock.core.errors import Conflict, InvalidInput, Unauthenticated, Unavailable
from interlock.evals.ports import Instruments, Metric, NoOptions
from interlock.evals.report import Report
from interlock.evals.running.journal import Journal, read_rows
from interlock.evals.service import Evaluations, Options
from interlock.evals.suite import MeasuredBy, MetricUse, Suite, read_suite
from interlock.evals.targets.python import PythonTarget
from interlock.evals.types import Case, Output, Score

pytestmark = pytest.mark.anyio


def _mean(report: Report, name: str) -> float | None:
    return next(metric.mean for metric in report.metrics if metric.name == name)


async def test_a_run_scores_every_case_and_repeat(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, questions(10), repeats=3)
    target = Answering(lambda case, repeat: right(case, repeat) if repeat < 2 else "wrong")
    report = await Evaluations(tmp_path / "runs").run(suite, target, Instruments())
    assert (report.executions, report.failed, report.ended) == (30, 0, "finished")
    assert _mean(report, "exact") == pytest.approx(2 / 3)
    assert len(report.flaky) == 10 and report.flaky[0].passed == 2
    assert sorted(target.asked) == sorted((f"c{n}", repeat) for n in range(10) for repeat in range(3))


async def test_a_target_that_fails_is_as_bad_as_can_be_and_not_left_out(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, questions(4), metrics=["exact", "latency"])
    target = Answering(lambda case, repeat: Output(error="boom") if case.id == "c0" else right(case, repeat))
    report = await Evaluations(tmp_path / "runs").run(suite, target, Instruments())
    assert report.failed == 1
    assert _mean(report, "exact") == pytest.approx(3 / 4)


async def test_the_run_stops_when_no_case_can_be_answered(tmp_path: Path) -> None:
    def refused(case: Case, repeat: int) -> Output:
        raise Unauthenticated("the key is refused")

    suite = suite_of(tmp_path, questions(4))
    with pytest.raises(Unauthenticated):
        await Evaluations(tmp_path / "runs").run(suite, Answering(refused), Instruments())


async def test_who_is_told_to_wait_waits_and_asks_again(tmp_path: Path) -> None:
    tries: dict[str, int] = {}

    def busy(case: Case, repeat: int) -> Output:
        tries[case.id] = tries.get(case.id, 0) + 1
        if tries[case.id] == 1:
            return Output(error="rate_limit_exceeded", retry_after_s=0.01)
        return Output(right(case, repeat))

    suite = suite_of(tmp_path, questions(3), run={"concurrency": 1})
    report = await Evaluations(tmp_path / "runs").run(suite, Answering(busy), Instruments())
    assert (report.failed, _mean(report, "exact")) == (0, 1.0)
    assert set(tries.values()) == {2}


async def test_a_target_that_is_gone_ends_the_run_instead_of_failing_its_cases(tmp_path: Path) -> None:
    gone = True

    def away(case: Case, repeat: int) -> Output:
        if gone and int(case.id[1:]) >= 5:
            return Output(error="unavailable", retry_after_s=0.01)
        return Output(right(case, repeat))

    suite = suite_of(tmp_path, questions(20), run={"concurrency": 4})
    evaluations = Evaluations(tmp_path / "runs")
    with pytest.raises(Unavailable, match="answers nothing"):
        await evaluations.run(suite, Answering(away), Instruments())
    gone = False
    report = await evaluations.run(suite, Answering(away), Instruments())
    assert (report.executions, report.failed) == (20, 0)


async def test_a_run_that_was_cancelled_goes_on_where_it_was(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, questions(20), run={"concurrency": 2})

    async def slow(case: Case, repeat: int) -> Output:
        if int(case.id[1:]) >= 8:
            await anyio.sleep(60)
        return Output(right(case, repeat))

    evaluations = Evaluations(tmp_path / "runs")
    with anyio.move_on_after(0.5):
        await evaluations.run(suite, Answering(slow), Instruments())
    target = Answering(right)
    taken: list[tuple[str, int]] = []
    options = Options(started=lambda run, count: taken.append((run, count)))
    report = await evaluations.run(suite, target, Instruments(), options)
    assert taken == [(report.id, 8)]
    assert len(target.asked) == 12
    assert (report.executions, _mean(report, "exact")) == (20, 1.0)
    fresh = await evaluations.run(suite, Answering(right), Instruments())
    assert fresh.id != report.id, "a finished run is not gone on with"


_KILLED = """
import asyncio, sys
from pathlib import Path
from interlock.evals.ports import Instruments
from interlock.evals.service import Evaluations
from interlock.evals.suite import read_suite
from tests.evals.suites import Answering
from interlock.evals.types import Output

async def answer(case, repeat):
    await asyncio.sleep(0.002)
    return Output(case.question.removeprefix("say "))

async def main():
    home = Path(sys.argv[1])
    await Evaluations(home / "runs").run(read_suite(home / "suite.yaml"), Answering(answer), Instruments())

asyncio.run(main())
"""


def test_kill_9_loses_nothing_that_was_written_and_doubles_nothing(tmp_path: Path) -> None:
    place = write_suite(tmp_path, questions(3000), run={"concurrency": 4}, floors=False)
    code = tmp_path / "killed.py"
    code.write_text(_KILLED, "utf-8")
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    for delay in (0.3, 0.5):
        process = subprocess.Popen([sys.executable, str(code), str(tmp_path)], env=env)
        deadline = time.monotonic() + 60
        while not list((tmp_path / "runs").glob("*/rows.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    target = Answering(right)
    report = anyio.run(Evaluations(tmp_path / "runs").run, read_suite(place), target, Instruments())
    rows = list(read_rows(tmp_path / "runs" / report.id))
    assert (report.executions, _mean(report, "exact")) == (3000, 1.0)
    assert sorted((row.case, row.repeat) for row in rows) == sorted((f"c{n}", 0) for n in range(3000))
    assert len(target.asked) < 3000, "what was done before the kill is not done again"


async def test_half_a_line_is_cut_off_and_its_case_asked_again(tmp_path: Path) -> None:
    folder = tmp_path / "ev_1"
    with Journal(folder):
        pass
    (folder / "rows.jsonl").write_bytes(b'{"case":"a","repeat":0,"scores":{},"output":null}\n{"case":"b","rep')
    with Journal(folder) as journal:
        assert [row.case for row in journal.rows()] == ["a"]
    assert (folder / "rows.jsonl").read_bytes().count(b"\n") == 1


async def test_one_run_is_held_by_one_process(tmp_path: Path) -> None:
    with Journal(tmp_path / "ev_1"), pytest.raises(Conflict), Journal(tmp_path / "ev_1"):
        pass


async def test_answers_are_kept_for_a_target_that_can_be_named_and_not_for_others(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, questions(5))
    evaluations = Evaluations(tmp_path / "runs")
    for identity, asked_again in (({"release": "sha256:1"}, 0), ({}, 5)):
        await evaluations.run(suite, Answering(right, identity), Instruments())
        again = Answering(right, identity)
        report = await evaluations.run(suite, again, Instruments())
        assert len(again.asked) == asked_again
        assert report.kept == 5 - asked_again


async def test_nothing_more_is_asked_once_the_budget_is_spent(tmp_path: Path) -> None:
    suite = suite_of(
        tmp_path,
        questions(50),
        run={"concurrency": 1, "max_cost_usd": 0.01},
        gate={"rules": [{"metric": "exact", "at_least": 0.5}]},
    )
    target = Answering(lambda case, repeat: Output(right(case, repeat), cost_nano=1_000_000))
    report = await Evaluations(tmp_path / "runs").run(suite, target, Instruments())
    assert report.ended == "budget"
    assert 10 <= len(target.asked) <= 11
    assert report.gate is not None and report.gate.verdict != "pass"


async def test_a_sealed_file_shows_no_row_and_counts_every_use(tmp_path: Path) -> None:
    suite = suite_of(
        tmp_path, questions(3), cases=[{"file": "cases.jsonl", "sealed": True, "most_uses": 2}], metrics=["exact"]
    )
    evaluations = Evaluations(tmp_path / "runs")
    first = await evaluations.run(suite, Answering(lambda c, r: "SECRET ANSWER"), Instruments())
    second = await evaluations.run(suite, Answering(lambda c, r: "SECRET ANSWER"), Instruments())
    assert [*first.sealed_uses.values(), *second.sealed_uses.values()] == [1, 2]
    with pytest.raises(Conflict, match="used 2 times"):
        await evaluations.run(suite, Answering(right), Instruments())
    written = b"".join(path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file())
    assert b"SECRET ANSWER" not in written and b"say 1" not in written


def _with_metric(suite: Suite, score: object) -> Suite:
    metric = Metric(NoOptions, "unit", score)  # type: ignore[arg-type]
    return replace(suite, measured_by=[MeasuredBy(MetricUse(metric="exact"), metric, NoOptions())])


@pytest.mark.parametrize("bad", ["raises", "not finite", "out of range", "no score"])
async def test_a_metric_that_fails_is_told_and_no_gate_passes_on_it(tmp_path: Path, bad: str) -> None:
    def score(case: Case, output: Output, options: NoOptions, instruments: Instruments) -> object:
        if case.id != "c0":
            return Score(1.0)
        if bad == "raises":
            raise KeyError("secret text")
        return {"not finite": Score(float("nan")), "out of range": Score(7.0)}.get(bad, 1.0)

    rules = [{"metric": "exact", "at_least": 1}]
    suite = _with_metric(suite_of(tmp_path, questions(40), gate={"rules": rules}), score)
    report = await Evaluations(tmp_path / "runs").run(suite, Answering(right), Instruments())
    assert report.gate is not None and report.gate.verdict == "not_enough_evidence"
    assert next(metric.errors for metric in report.metrics if metric.name == "exact") == 1
    assert "secret text" not in json.dumps([str(each) for each in (report.notes, report.gate)])


async def test_a_gate_against_a_baseline_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, questions(3), gate={"rules": [{"metric": "exact", "margin": 0.1}]})
    target = Answering(right)
    with pytest.raises(InvalidInput, match="baseline"):
        await Evaluations(tmp_path / "runs").run(suite, target, Instruments())
    assert target.asked == []


async def test_a_worse_version_fails_against_its_baseline_and_an_equal_one_passes(tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path / "runs")
    rules = {"rules": [{"metric": "exact", "margin": 0.1}]}
    base = await evaluations.run(suite_of(tmp_path, questions(300)), Answering(right), Instruments())
    suite = suite_of(tmp_path, questions(300), gate=rules)
    options = Options(baseline=base.id)
    same = await evaluations.run(suite, Answering(right), Instruments(), options)
    assert same.gate is not None and same.gate.verdict == "pass"
    half = Answering(lambda case, repeat: right(case, repeat) if int(case.id[1:]) % 2 else "wrong")
    worse = await evaluations.run(suite, half, Instruments(), options)
    assert worse.gate is not None and worse.gate.verdict == "fail"
    assert worse.gate.rules[0].value == pytest.approx(-0.5)


async def test_cases_that_changed_since_the_baseline_are_not_compared(tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path / "runs")
    base = await evaluations.run(suite_of(tmp_path, questions(10)), Answering(right), Instruments())
    changed = [*questions(5), *({**case, "input": "say it"} for case in questions(10)[5:])]
    suite = suite_of(tmp_path, changed, gate={"rules": [{"metric": "exact", "margin": 0.1}]})
    report = await evaluations.run(suite, Answering(right), Instruments(), Options(baseline=base.id))
    assert report.notes == ("5 cases are new or changed since the baseline, and are not compared",)
    assert report.gate is not None and report.gate.rules[0].units == 5


async def test_a_run_stops_early_once_its_gate_is_clear(tmp_path: Path) -> None:
    gate = {"rules": [{"metric": "exact", "at_least": 0.5}]}
    suite = suite_of(tmp_path, questions(2000), gate=gate, run={"stop_early": True, "concurrency": 1}, floors=False)
    target = Answering(right)
    report = await Evaluations(tmp_path / "runs").run(suite, target, Instruments())
    assert report.ended == "stopped_early"
    assert report.gate is not None and report.gate.verdict == "pass"
    assert len(target.asked) < 200


async def test_floors_are_measured_and_flag_what_they_pass(tmp_path: Path) -> None:
    cases = [*questions(3), {"id": "echoed", "input": "yes", "expected": "yes"}]
    report = await Evaluations(tmp_path / "runs").run(suite_of(tmp_path, cases), Answering(right), Instruments())
    floors = {floor.name: floor for floor in report.floors}
    assert floors["echo"].means["exact"] == pytest.approx(1 / 4)
    assert floors["null"].means["exact"] == 0
    assert report.weak_cases == ("echoed",)


async def test_what_is_erased_of_documents_and_persons_is_erased_of_runs(tmp_path: Path) -> None:
    cases = [{**case, "as": "ada" if case["id"] == "c1" else "bob"} for case in questions(4)]

    def answer(case: Case, repeat: int) -> Output:
        return Output(f"SECRET of {case.id}", documents=("doc-2" if case.id == "c2" else "doc-x",))

    evaluations = Evaluations(tmp_path / "runs")
    report = await evaluations.run(suite_of(tmp_path, cases), Answering(answer, {"release": "r"}), Instruments())
    assert await evaluations.mentions(["doc-2"]) == 1
    assert await evaluations.forget(["doc-2"], "ada") == 2
    assert await evaluations.mentions(["doc-2"], "ada") == 0
    written = b"".join(path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file())
    assert b"SECRET of c1" not in written and b"SECRET of c2" not in written and b"SECRET of c3" in written
    assert len(list(read_rows(tmp_path / "runs" / report.id))) == 4, "scores stay"
    assert _mean(evaluations.report(report.id), "exact") == 0


async def test_an_erasure_waits_for_a_run_that_goes_on(tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path / "runs")
    report = await evaluations.run(suite_of(tmp_path, questions(2)), Answering(right), Instruments())
    with Journal(tmp_path / "runs" / report.id), pytest.raises(Conflict, match="is going on"):
        await evaluations.forget(["doc-1"])


@pytest.mark.parametrize(
    ("reply", "text", "failed"),
    [
        ("half \ud800 a pair", "half ? a pair", 0),
        ({"text": "fine", "state": {"note": ["\udfff"]}}, "fine", 0),
        (Output("fine", model="\ud800"), "fine", 0),
        ({"text": "fine", "state": object()}, "", 1),
        ({"text": "fine", "cost_nano": -5}, "", 1),
        ({"text": "fine", "latency_s": float("inf")}, "", 1),
        (Output("fine", first_token_s=float("nan")), "", 1),
        (Output("fine", output_tokens=-1), "", 1),
        (Output(error="busy", retry_after_s=-1.0), "", 1),
    ],
)
async def test_an_answer_that_no_file_can_hold_does_not_end_the_run(
    tmp_path: Path, reply: object, text: str, failed: int
) -> None:
    suite = suite_of(tmp_path, questions(2), floors=False)
    target = PythonTarget("python:x", lambda case: reply if case["id"] == "c0" else "1")
    report = await Evaluations(tmp_path / "runs").run(suite, target, Instruments())
    rows = {row.case: row for row in read_rows(tmp_path / "runs" / report.id)}
    assert (report.executions, report.failed, rows["c0"].output and rows["c0"].output.text) == (2, failed, text)
