"""When a running server takes a new configuration: SIGHUP, `interlock reload`, or the file itself changing."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import termios
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Protocol

from interlock.app import App
from interlock.config import FILE
from interlock.core.errors import InterlockError
from interlock.server.running import Announcement, announced

__all__ = ["Reloader"]

_log = logging.getLogger("interlock.config")
_LOOK_EVERY_S = 1.0


class Stoppable(Protocol):
    """A server that can be told to end."""

    should_exit: bool


class Reloader:
    """Reloads the configuration of a serving App."""

    def __init__(self, app: App, server: Stoppable) -> None:
        self._app = app
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._announcement: Announcement | None = None
        self._had_terminal = _has_terminal()

    @contextmanager
    def listening(self, url: str) -> Iterator[None]:
        """Reload when asked, until the block ends."""
        loop = asyncio.get_running_loop()
        # Only the main thread may take signals; a server in another one still has the API.
        with suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        self._app.configuration.accept("start")
        if self._app.workspace.settings.server.watch:
            self._do(self._watch())
        try:
            with announced(self._app.workspace.data, url) as self._announcement:
                yield
        finally:
            with suppress(ValueError, RuntimeError, NotImplementedError):
                loop.remove_signal_handler(signal.SIGHUP)
            for task in list(self._tasks):
                task.cancel()

    def _hung_up(self) -> None:
        if self._had_terminal and not _has_terminal():
            # The terminal was closed: whoever started us there expects us to end with it.
            self._server.should_exit = True
            return
        self._do(self._reload())

    def _do(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        announcement = self._announcement
        assert announcement is not None, "signals are taken while announced"
        token = announcement.token
        try:
            done = await self._app.configuration.reload(self._app.owner())
        except InterlockError as error:
            said = {"code": error.code, "message": error.message, "param": error.param, "hint": error.hint}
            announcement.tell({"token": token, "ok": False, "error": said})
        except Exception as error:  # noqa: BLE001 - a border: the old configuration goes on
            _log.error("a reload broke off: %s", type(error).__name__, exc_info=error)
            said = {"code": "internal_error", "message": "see the server's log", "param": None, "hint": None}
            announcement.tell({"token": token, "ok": False, "error": said})
        else:
            announcement.tell({"token": token, "ok": True, **asdict(done)})

    async def _watch(self) -> None:
        """Reload once the file has changed and then stayed as it is for a moment, so that half a file is not read."""
        path = self._app.workspace.root / FILE
        held = seen = _stamp(str(path))
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            found = _stamp(str(path))
            if found == seen and found != held:
                held = found
                await self._reload()
            seen = found


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _has_terminal() -> bool:
    try:
        termios.tcgetattr(sys.stdin.fileno())
    except (termios.error, OSError, ValueError, AttributeError):
        return False
    return True
