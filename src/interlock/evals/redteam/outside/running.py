"""Install a tool, let it attack, read what it found. Blocking work is in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
from anyio import to_thread

from interlock.core.clock import now
from interlock.core.errors import InvalidInput, NotFound, Unavailable
from interlock.evals.redteam.outside.tools import tools
from interlock.evals.redteam.outside.types import Call, OutsideReport, Place, Verdict
from interlock.stats.bounded import proportion_p
from interlock.stats.intervals import wilson

__all__ = ["OutsideAsked", "OutsideRuns", "install", "markdown"]

_ALPHA = 0.05
_LOG = "output.log"


class OutsideAsked(msgspec.Struct, frozen=True):
    """One run of a tool."""

    tool: str
    target: str
    address: str
    options: tuple[str, ...] = ()
    most_success: float | None = 0.05
    timeout_s: float = 3600.0


async def install(name: str, home: Path, *, timeout_s: float = 3600.0) -> Path:
    """Install a tool below ``home/NAME``; one that is there already is left alone. Gives its folder.

    Raises: InvalidInput: no such tool; Unavailable: it could not be installed.
    """
    tool = tools.get(name)
    folder = home / name
    if (folder / tool.executable).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for call in tool.install(folder):
        code = await _run(call, folder / _LOG, timeout_s)
        if code != 0:
            raise Unavailable(
                f"{name} could not be installed (exit code {code})",
                code="tool_not_installed",
                retryable=False,
                hint=f"what was said stands in {folder / _LOG}",
            )
    return folder


class OutsideRuns:
    """Runs of tools, a folder each.

    Args:
        home: of the runs.
        environments: where tools are installed.
    """

    def __init__(self, home: Path, environments: Path) -> None:
        self._home = home
        self._environments = environments

    async def run(self, asked: OutsideAsked, *, release_now: Callable[[], Awaitable[str]]) -> OutsideReport:
        """Let a tool attack an address.

        Args:
            release_now: digest of the release that the target is; asked before and after.

        Raises: InvalidInput: no such tool, a wrong option, no report; NotFound: it is not installed; Unavailable: it
            took too long.
        """
        tool = tools.get(asked.tool)
        installed = self._environments / asked.tool
        if not (installed / tool.executable).exists():
            raise NotFound(
                f"{asked.tool} is not installed", param="tool", hint=f"interlock redteam install {asked.tool}"
            )
        began, before = now(), await release_now()
        run_id = f"rt_{int(began.timestamp() * 1000):012x}{secrets.token_hex(2)}"
        folder = self._home / run_id
        folder.mkdir(mode=0o700, parents=True)
        call = tool.attack(installed, Place(asked.address, asked.target, folder), asked.options)
        code = await _run(call, folder / _LOG, asked.timeout_s)
        try:
            rows = await to_thread.run_sync(tool.read, folder)
        except InvalidInput as error:
            told = f"{error.message} (exit code {code})"
            raise InvalidInput(told, param=error.param, hint=str(folder / _LOG)) from error
        tried, worked = sum(row.tried for row in rows), sum(row.worked for row in rows)
        report = OutsideReport(
            id=run_id,
            tool=asked.tool,
            version=tool.version,
            target=asked.target,
            release=before if await release_now() == before else "",
            options=asked.options,
            began_at=began,
            ended_at=now(),
            rows=tuple(rows),
            tried=tried,
            worked=worked,
            success=wilson(worked, tried) if tried else None,
            most_success=asked.most_success,
            verdict=None if asked.most_success is None else _verdict(worked, tried, asked.most_success),
        )
        await to_thread.run_sync((folder / "report.json").write_bytes, msgspec.json.encode(report))
        return report

    def list(self) -> Iterator[OutsideReport]:
        """Newest first; runs without a report are left out. Blocking."""
        for place in sorted(self._home.glob("rt_*/report.json"), reverse=True):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                yield msgspec.json.decode(place.read_bytes(), type=OutsideReport)


def _verdict(worked: int, tried: int, most: float) -> Verdict:
    """Whether the rate is shown to be at most so much; exact binomial tests."""
    if proportion_p(worked, tried, most, side="below") <= _ALPHA:
        return "pass"
    return "fail" if proportion_p(worked, tried, most, side="above") <= _ALPHA else "not_enough_evidence"


async def _run(call: Call, log: Path, timeout_s: float) -> int:
    """Exit code of a command whose output goes to a file. Its whole group of processes ends with this one."""
    with log.open("ab") as out:
        try:
            process = await asyncio.create_subprocess_exec(
                *call.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(call.environment),
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(
                f"{Path(call.arguments[0]).name} cannot be started: {error.strerror}", code="tool_not_installed"
            ) from error
        try:
            async with asyncio.timeout(timeout_s):
                return await process.wait()
        except TimeoutError as error:
            raise Unavailable(
                f"{Path(call.arguments[0]).name} took longer than {timeout_s:g} s", code="timeout", retryable=False
            ) from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


def markdown(report: OutsideReport) -> str:
    """For a pull request."""
    lines = [
        f"## {report.tool} {report.version} on {report.target}",
        "",
        "| attack | worked | useful |",
        "|---|---|---|",
    ]
    for row in report.rows:
        useful = "" if row.useful is None else f"{row.useful} of {row.tried}"
        lines.append(f"| {row.name.replace('|', chr(92) + '|')} | {row.worked} of {row.tried} | {useful} |")
    return "\n".join([*lines, ""])
