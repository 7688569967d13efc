"""Runs beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.evals.suites import Answering, questions, right, suite_of

from interlock.core.errors import InvalidInput
from interlock.evals.comparing import Beside, compared, frontier
from interlock.evals.ports import Instruments
from interlock.evals.service import Evaluations
from interlock.evals.types import Case, Output

pytestmark = pytest.mark.anyio


async def _run(folder: Path, share: float, seconds: float) -> Beside:
    def answer(case: Case, repeat: int) -> Output:
        good = int(case.id[1:]) % 100 < share * 100
        return Output(right(case, repeat) if good else "wrong", latency_s=seconds)

    evaluations = Evaluations(folder / "runs")
    suite = suite_of(folder, questions(100), metrics=["exact", "latency"])
    report = await evaluations.run(suite, Answering(answer), Instruments())
    values = evaluations.baseline(report.id)
    return Beside(report.id, report.target, values.cases, values.measured)


async def test_what_differs_beyond_chance_is_told_case_by_case(tmp_path: Path) -> None:
    first, same, better = [await _run(tmp_path, share, 1.0) for share in (0.6, 0.6, 0.9)]
    cells = {(cell.run, cell.metric): cell for cell in compared([first, same, better])}
    assert cells[first.id, "exact"].against_first is None
    equal, gain = cells[same.id, "exact"].against_first, cells[better.id, "exact"].against_first
    assert equal is not None and equal.value == 0 and equal.p == 1
    assert gain is not None and gain.value == pytest.approx(0.3) and gain.p < 0.01
    assert gain.interval.low > 0.15


async def test_the_frontier_leaves_out_who_is_beaten_in_everything(tmp_path: Path) -> None:
    good_slow, bad_fast, bad_slow = (
        await _run(tmp_path, 0.9, 2.0),
        await _run(tmp_path, 0.5, 1.0),
        await _run(tmp_path, 0.5, 2.0),
    )
    cells = compared([good_slow, bad_fast, bad_slow])
    assert frontier(cells, ["exact", "latency"]) == [good_slow.id, bad_fast.id]
    assert frontier(cells, ["exact"]) == [good_slow.id]
    with pytest.raises(InvalidInput, match="not every run has 'cost'"):
        frontier(cells, ["cost"])
    with pytest.raises(InvalidInput, match="two runs"):
        compared([good_slow])
