"""``command:./answer.sh``: a program, started once a case.

It reads the case as one JSON object on standard input and writes its answer on standard output: text, or a JSON object
with the fields of an output where the first character is ``{``. Another exit code than 0 is a failed answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
from collections.abc import Mapping

from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.evals.targets._replies import MOST_TEXT, asked, output_of
from interlock.evals.types import Case, Output

__all__ = ["CommandTarget", "plugin"]

# uvloop says RuntimeError of a pipe whose other end is closed already.
_CLOSED = (BrokenPipeError, ConnectionResetError, RuntimeError)


class CommandTarget:
    """A program. It is killed, with what it started, when its time is over."""

    identity: Mapping[str, object] = {}
    release_id = ""

    def __init__(self, address: str) -> None:
        self.name = f"command:{address}"
        try:
            self._words = shlex.split(address)
        except ValueError as error:
            raise InvalidInput(f"{address!r} is no command: {error}", param="target") from error
        if not self._words:
            raise InvalidInput("command: names no program", param="target", hint="command:./answer.sh")
        if shutil.which(self._words[0]) is None:
            raise NotFound(f"there is no program {self._words[0]!r}", param="target")

    async def run(self, case: Case, repeat: int) -> Output:
        """See `Target`."""
        process = await asyncio.create_subprocess_exec(
            *self._words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            written, too_long = await self._talk(process, json.dumps(asked(case, repeat)).encode())
            code = await process.wait() if not too_long else 1
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if too_long:
            return Output(error="too_long")
        if code:
            return Output(error=f"exit_{code}")
        return _output(written)

    async def _talk(self, process: asyncio.subprocess.Process, told: bytes) -> tuple[bytes, bool]:
        assert process.stdin is not None and process.stdout is not None, "both are pipes"
        # A program that never reads must not keep its case waiting for ever, nor one that closes early break it.
        with contextlib.suppress(*_CLOSED):
            process.stdin.write(told)
            await process.stdin.drain()
        with contextlib.suppress(*_CLOSED):
            process.stdin.close()
        written = bytearray()
        while chunk := await process.stdout.read(1 << 16):
            written += chunk
            if len(written) > MOST_TEXT:
                return bytes(written), True
        return bytes(written), False

    async def close(self) -> None:
        """Nothing is held."""


def _output(written: bytes) -> Output:
    text = written.decode("utf-8", errors="replace").strip()
    if not text.startswith("{"):
        return Output(text)
    try:
        return output_of(json.loads(text))
    except (ValueError, RecursionError):
        return Output(text)
    except InterlockError as error:
        return Output(error=error.code)


class _Plugin:
    def open(self, address: str, options: Mapping[str, str]) -> CommandTarget:
        return CommandTarget(address)


plugin = _Plugin()
