"""Executors, on real processes and a real Ray cluster of this machine."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from interlock.core.errors import Unavailable
from interlock.stores.compute.base import Executor, Limits, Opening, available_cores
from interlock.stores.compute.inline import InlineExecutor
from interlock.stores.compute.processes import ProcessExecutor
from interlock.stores.compute.ray import RayExecutor
from interlock.testing.stores.compute import Desk, ExecutorSuite, OpenExecutor, is_alive


class TestInline(ExecutorSuite):
    isolated = False

    @pytest.fixture
    def opens(self) -> OpenExecutor:
        def give(opening: Opening, workers: int, limits: Limits) -> Executor:
            return InlineExecutor(opening, workers=workers)

        return give


class TestProcesses(ExecutorSuite):
    @pytest.fixture
    def opens(self) -> OpenExecutor:
        def give(opening: Opening, workers: int, limits: Limits) -> Executor:
            return ProcessExecutor(opening, workers=workers, limits=limits)

        return give


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One for all of them: starting one takes some seconds."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("cluster")
class TestRay(ExecutorSuite):
    @pytest.fixture
    def opens(self) -> OpenExecutor:
        def give(opening: Opening, workers: int, limits: Limits) -> Executor:
            return RayExecutor(opening, workers=workers, limits=limits)

        return give


_BUSY = """
import asyncio, sys
from pathlib import Path
from interlock.stores.compute.settings import ComputeSettings, open_executor
from interlock.testing.stores.compute import Desk, sleep

async def main():
    folder = Path(sys.argv[1])
    async with open_executor(ComputeSettings(executor=sys.argv[2], workers=2), Desk(folder)) as executor:
        await asyncio.gather(executor.run(sleep, 600.0), executor.run(sleep, 600.0))

asyncio.run(main())
"""


def _family(pid: int) -> list[int]:
    """Descendants of a process, itself included."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            own, rest = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(int(rest[1]), []).append(own)
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_no_worker_outlives_the_kill_of_the_process_that_started_it(kind: str, tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _BUSY, str(tmp_path), kind], env={**os.environ})
    while not (tmp_path / "opened").exists() or len((tmp_path / "opened").read_text().split()) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    # Two agents of Ray's own, which do nothing for anybody, end a minute later.
    family = {pid for pid in _family(parent.pid) if b"Agent" not in Path(f"/proc/{pid}/cmdline").read_bytes()}
    assert {int(pid) for pid in (tmp_path / "opened").read_text().split()} < family
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(is_alive(pid) for pid in family):
        time.sleep(0.1)


async def test_a_cluster_that_is_away_is_told_with_its_address(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no Ray cluster answers at '127\.0\.0\.1:9'") as told:
        async with RayExecutor(Desk(tmp_path), workers=1, address="127.0.0.1:9"):
            pass
    assert told.value.code == "ray_away"
    assert told.value.param == "compute.address"


def test_the_cores_are_those_this_process_may_use() -> None:
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))
