"""Ingests that are killed at random moments: nothing half-written, nothing lost, and the next run does the rest."""

from __future__ import annotations

import pytest
from benchmarks.kills import kill_at_random

KILLS = {"inline": 10, "processes": 4, "ray": 2}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("executor", list(KILLS))
def test_a_killed_ingest_leaves_whole_documents_and_the_next_run_makes_it_good(tmp_path, executor):
    found = kill_at_random(KILLS[executor], seed=3, folder=tmp_path / "acme", documents=16, executor=executor)
    assert found.problems == []
    assert found.killed >= KILLS[executor]
    # A cluster takes seconds to start: a kill may come before it has workers.
    assert found.workers > 0 or executor != "processes"
    assert found.at["a part of the work done"] + found.at["nothing of the work done"] > 0
