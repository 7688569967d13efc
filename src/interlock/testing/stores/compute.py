# ruff: noqa: D102 - a test name is a sentence
"""What every `Executor` must do. Workers are real: processes of this machine, or of a Ray cluster of this machine."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from interlock.core.errors import Misconfigured, TooLarge
from interlock.stores.compute.base import Executor, Limits, Opening, WorkerLost, WorkFailed, results

__all__ = ["ExecutorSuite", "OpenExecutor"]

OpenExecutor = Callable[[Opening, int, Limits], Executor]
"""Gives an executor of an opening, a number of workers and limits."""


@dataclass(frozen=True)
class Desk:
    """The state of these tests: writes down that it was opened and closed."""

    folder: Path

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Path]:
        with (self.folder / "opened").open("a") as file:
            file.write(f"{os.getpid()}\n")
        yield self.folder


async def double(_: Path, number: int) -> int:
    return 2 * number


async def whoami(_: Path, __: None) -> int:
    await asyncio.sleep(0.05)
    return os.getpid()


async def variable(_: Path, name: str) -> str | None:
    return os.environ.get(name)


async def sleep(folder: Path, seconds: float) -> None:
    (folder / "begun").touch()
    await asyncio.sleep(seconds)
    (folder / "ended").touch()


async def refuse(_: Path, name: str) -> None:
    raise TooLarge(f"the file {name!r} is too large", param=name, code="too_many", hint="split it")


async def stumble(_: Path, secret: str) -> None:
    raise KeyError(secret)


async def die_until(folder: Path, times: int) -> int:
    """Dies by itself the first times."""
    with (folder / "deaths").open("a") as file:
        file.write("x")
    count = len((folder / "deaths").read_text())
    if count <= times:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # noqa: ASYNC251 - until it is dead
    return count


async def length(_: Path, data: bytes) -> bytes:
    return data * 2


class ExecutorSuite:
    """Needs the fixtures ``opens`` (an `OpenExecutor`) and ``tmp_path``; `isolated` is False where units share this
    process.
    """

    isolated = True

    async def test_units_give_their_results(self, opens: OpenExecutor, tmp_path: Path) -> None:
        async with opens(Desk(tmp_path), 2, Limits()) as executor:
            assert await executor.run(double, 21) == 42
            assert await asyncio.gather(*[executor.run(double, n) for n in range(50)]) == [2 * n for n in range(50)]

    async def test_many_results_come_with_their_index(self, opens: OpenExecutor, tmp_path: Path) -> None:
        async with opens(Desk(tmp_path), 2, Limits()) as executor:
            found = [one async for one in results(executor, double, range(100), in_flight=5)]
        assert sorted(found) == [(n, 2 * n) for n in range(100)]

    async def test_an_endless_row_of_arguments_is_drawn_as_room_gets_free(
        self, opens: OpenExecutor, tmp_path: Path
    ) -> None:
        drawn = 0

        def numbers() -> itertools.count[int]:
            return itertools.count()

        def counted() -> object:
            nonlocal drawn
            for number in numbers():
                drawn += 1
                yield number

        async with opens(Desk(tmp_path), 2, Limits()) as executor:
            taken = 0
            async with aclosing(results(executor, double, counted(), in_flight=4)) as found:  # type: ignore[arg-type]
                async for _ in found:
                    taken += 1
                    assert drawn <= taken + 4
                    if taken == 20:
                        break

    async def test_each_worker_opens_its_state_once(self, opens: OpenExecutor, tmp_path: Path) -> None:
        async with opens(Desk(tmp_path), 2, Limits()) as executor:
            pids = set(await asyncio.gather(*[executor.run(whoami, None) for _ in range(12)]))
        opened = [int(pid) for pid in (tmp_path / "opened").read_text().split()]
        assert sorted(opened) == sorted(pids)
        assert len(pids) == (2 if self.isolated else 1)
        assert (os.getpid() in pids) != self.isolated

    async def test_an_error_of_ours_arrives_with_all_its_fields(self, opens: OpenExecutor, tmp_path: Path) -> None:
        async with opens(Desk(tmp_path), 1, Limits()) as executor:
            with pytest.raises(TooLarge) as told:
                await executor.run(refuse, "a.pdf")
            assert (told.value.code, told.value.param, told.value.hint) == ("too_many", "a.pdf", "split it")
            assert await executor.run(double, 1) == 2

    async def test_a_bug_is_told_by_its_type_and_never_by_its_text(self, opens: OpenExecutor, tmp_path: Path) -> None:
        async with opens(Desk(tmp_path), 1, Limits()) as executor:
            with pytest.raises(WorkFailed, match=r"'stumble' failed with KeyError$"):
                await executor.run(stumble, "4111 1111 1111 1111")
            assert await executor.run(double, 1) == 2

    async def test_the_first_error_of_many_units_ends_them(self, opens: OpenExecutor, tmp_path: Path) -> None:
        async with opens(Desk(tmp_path), 2, Limits()) as executor:
            with pytest.raises(TooLarge):
                async for _ in results(executor, refuse, itertools.repeat("b.pdf")):
                    pass

    async def test_units_and_results_may_be_large(self, opens: OpenExecutor, tmp_path: Path) -> None:
        data = os.urandom(5_000_000)
        async with opens(Desk(tmp_path), 2, Limits()) as executor:
            assert await executor.run(length, data) == data * 2

    async def test_a_cancelled_unit_frees_its_worker_and_does_not_end(
        self, opens: OpenExecutor, tmp_path: Path
    ) -> None:
        async with opens(Desk(tmp_path), 1, Limits()) as executor:
            task = asyncio.create_task(executor.run(sleep, 60.0))
            await begun(tmp_path)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await executor.run(double, 4) == 8
        assert not (tmp_path / "ended").exists()

    async def test_a_unit_that_waits_can_be_cancelled_and_the_next_one_is_done(
        self, opens: OpenExecutor, tmp_path: Path
    ) -> None:
        async with opens(Desk(tmp_path), 1, Limits()) as executor:
            first = asyncio.create_task(executor.run(sleep, 0.2))
            waiting = asyncio.create_task(executor.run(double, 1))
            last = asyncio.create_task(executor.run(double, 2))
            await asyncio.sleep(0)
            waiting.cancel()
            await first
            assert await last == 4
            with pytest.raises(asyncio.CancelledError):
                await waiting

    async def test_urgent_units_come_first(self, opens: OpenExecutor, tmp_path: Path) -> None:
        order: list[str] = []

        async def note(executor: Executor, name: str, *, urgent: bool) -> None:
            await executor.run(double, 1, urgent=urgent)
            order.append(name)

        async with opens(Desk(tmp_path), 1, Limits()) as executor:
            first = asyncio.create_task(executor.run(sleep, 0.2))
            await begun(tmp_path)
            async with asyncio.TaskGroup() as group:
                for number in range(3):
                    group.create_task(note(executor, f"patient {number}", urgent=False))
                await asyncio.sleep(0)
                group.create_task(note(executor, "urgent", urgent=True))
            await first
        assert order == ["urgent", "patient 0", "patient 1", "patient 2"]

    # ── workers that end ──────────────────────────────────────────────────────────────────────────────────────────

    async def test_a_unit_whose_worker_died_is_done_by_another(
        self, opens: OpenExecutor, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        if not self.isolated:
            return
        async with opens(Desk(tmp_path), 2, Limits()) as executor:
            assert await executor.run(die_until, 1) == 2
            assert executor.lost == 1
            assert await executor.run(double, 5) == 10
        assert f"the worker {executor.kind}-" in caplog.text

    async def test_a_unit_that_kills_every_worker_is_given_up_and_others_go_on(
        self, opens: OpenExecutor, tmp_path: Path
    ) -> None:
        if not self.isolated:
            return
        async with opens(Desk(tmp_path), 2, Limits(tries=2)) as executor:
            with pytest.raises(WorkerLost, match=rf"2 workers ended while .*'die_until'.*\({executor.kind}-\d\)"):
                await executor.run(die_until, 99)
            assert len((tmp_path / "deaths").read_text()) == 2
            assert await executor.run(double, 5) == 10

    async def test_a_worker_that_takes_too_long_is_killed(self, opens: OpenExecutor, tmp_path: Path) -> None:
        if not self.isolated:
            return
        async with opens(Desk(tmp_path), 1, Limits(unit_s=8.0, tries=1)) as executor:
            with pytest.raises(WorkerLost, match="took longer than 8 s"):
                await executor.run(sleep, 60.0)
            assert await executor.run(double, 5) == 10
        assert not (tmp_path / "ended").exists()

    async def test_workers_know_no_secrets_of_this_process(
        self, opens: OpenExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not self.isolated:
            return
        monkeypatch.setenv("ACME_API_KEY", "s3cret")
        async with opens(Desk(tmp_path), 1, Limits()) as executor:
            assert await executor.run(variable, "ACME_API_KEY") is None
            assert await executor.run(variable, "PATH") == os.environ["PATH"]

    async def test_leaving_ends_every_worker_busy_ones_too(self, opens: OpenExecutor, tmp_path: Path) -> None:
        if not self.isolated:
            return
        with pytest.raises(ExceptionGroup):  # noqa: PT012 - what is left is the whole block
            async with opens(Desk(tmp_path), 2, Limits()) as executor:
                pids = set(await asyncio.gather(*[executor.run(whoami, None) for _ in range(8)]))
                async with asyncio.TaskGroup() as group:
                    group.create_task(executor.run(sleep, 60.0))
                    await begun(tmp_path)
                    raise LookupError
        async with asyncio.timeout(30):
            await ended(pids)

    async def test_what_cannot_be_sent_is_refused_by_name(self, opens: OpenExecutor, tmp_path: Path) -> None:
        if not self.isolated:
            return
        async with opens(Desk(tmp_path), 1, Limits()) as executor:
            with pytest.raises(Misconfigured, match="<lambda>' cannot be sent to workers"):
                await executor.run(lambda _, argument: double(_, argument + 1), 1)
            assert await executor.run(double, 1) == 2


async def begun(folder: Path) -> None:
    """Wait until a unit `sleep` is under way."""
    while not (folder / "begun").exists():  # noqa: ASYNC110 - it happens in another process
        await asyncio.sleep(0.01)


async def ended(pids: set[int]) -> None:
    """Wait until all of these processes are gone."""
    while any(is_alive(pid) for pid in pids):  # noqa: ASYNC110 - other processes
        await asyncio.sleep(0.05)


def is_alive(pid: int) -> bool:
    """False of what ended, zombies too."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
