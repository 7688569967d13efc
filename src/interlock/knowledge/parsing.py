"""Loading with limits: risky formats in a parser process that can be killed, small text files in a thread."""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType

import anyio
import msgspec
from anyio import to_thread
from anyio.abc import Process

from interlock.core.errors import InterlockError, InvalidInput, MissingExtra, TooLarge
from interlock.knowledge.extras import needs_extra
from interlock.knowledge.loaders import loaders
from interlock.knowledge.parser_process import HEADER, ParseFailure, ParseReply, ParseRequest
from interlock.knowledge.types import LoadedDocument

__all__ = ["Parser"]

_ISOLATE_FROM = 64 * 1024
"""Larger files of any format go to the parser process: hostile Markdown takes 60 us a byte."""
_MAX_REQUESTS = 1_000
"""Times that reading one file may ask for more time."""
_MAX_REQUEST_S = 20.0
_ERRORS: dict[str, type[InterlockError]] = {"TooLarge": TooLarge, "MissingExtra": MissingExtra}


class Parser:
    """Loads files one at a time; ``async with`` it, so that its process ends on every exit.

    Args:
        timeout_s: for one file; a page whose text must be recognised, or whose tables are looked for, adds to it.
        memory_bytes: address space of the process.
    """

    def __init__(self, *, timeout_s: float, memory_bytes: int) -> None:
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._process: Process | None = None

    async def __aenter__(self) -> Parser:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def load(self, loader: str, data: bytes, name: str) -> LoadedDocument:
        """The document in `data`.

        Raises: InvalidInput, TooLarge (`param` is `name`), MissingExtra.
        """
        plugin = loaders.get(loader)
        if not plugin.isolated and len(data) < _ISOLATE_FROM:
            try:
                with needs_extra(f"the loader {loader!r}"):
                    return await to_thread.run_sync(plugin.load, data, name)
            except InterlockError:
                raise
            except Exception as error:
                # The border to plug-ins: a loader's own bug is one failed file.
                raise _unreadable(name, loader) from error
        return await self._load_isolated(loader, data, name)

    async def _load_isolated(self, loader: str, data: bytes, name: str) -> LoadedDocument:
        done = False
        try:
            with anyio.fail_after(self._timeout_s) as clock:
                reply = await self._ask(ParseRequest(loader, name, data), clock)
            done = True
        except TimeoutError as error:
            raise InvalidInput(
                f"reading the file {name!r} took longer than {self._timeout_s:g} s",
                param=name,
                code="parse_timeout",
                hint="split it, or raise knowledge.parse_timeout_s",
            ) from error
        except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError) as error:
            raise InvalidInput(
                f"the parser ended while reading the file {name!r}", param=name, code="parser_crashed"
            ) from error
        finally:
            if not done:
                await self._stop()  # it may still be busy with this file, or dead
        if reply.document is None:
            raise _error(reply.failure, name)
        return reply.document

    async def _ask(self, request: ParseRequest, clock: anyio.CancelScope) -> ParseReply:
        process = self._process or await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        frame = msgspec.msgpack.encode(request)
        await process.stdin.send(HEADER.pack(len(frame)) + frame)
        received = bytearray()
        asked = 0
        while True:
            while (end := _frame_end(received)) is None or len(received) < end:
                received += await process.stdout.receive()
            reply = msgspec.msgpack.decode(bytes(received[HEADER.size : end]), type=ParseReply)
            if reply.document is not None or reply.failure is not None or asked >= _MAX_REQUESTS:
                return reply
            # Pages that take long by their nature are few, and each asks before it is begun.
            asked += 1
            clock.deadline += min(max(reply.more_time_s, 0.0), _MAX_REQUEST_S)
            del received[:end]

    async def _start(self) -> Process:
        # The search path travels, the rest of the environment (keys, passwords) does not.
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ.get("PATH", "")}
        self._process = await anyio.open_process(
            [sys.executable, "-m", "interlock.knowledge.parser_process", str(self._memory_bytes)],
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        return self._process

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


def _frame_end(received: bytearray) -> int | None:
    return HEADER.size + int(HEADER.unpack(received[: HEADER.size])[0]) if len(received) >= HEADER.size else None


def _error(failure: ParseFailure | None, name: str) -> InterlockError:
    if failure is None:
        return _unreadable(name, "?")
    kind = _ERRORS.get(failure.kind, InvalidInput)
    return kind(failure.message, param=name, code=failure.code, hint=failure.hint)


def _unreadable(name: str, loader: str) -> InvalidInput:
    return InvalidInput(
        f"the file {name!r} cannot be read by the loader {loader!r}", param=name, code="damaged_document"
    )
