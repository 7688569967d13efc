"""One JSON line a request: who, what, which model, how it ended, what it cost. Never content.

The request only leaves a tuple in a queue; a thread writes. The file may be renamed by a rotating tool at any time: a
new one is begun, no signal is needed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from interlock.core.context import Context
from interlock.core.money import Money

__all__ = ["AccessLine", "AccessLog"]

_log = logging.getLogger("interlock.access")
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
_EVERY_S = 0.2
_MOST = 20_000
_MAX_PATH = 200


class AccessLine(NamedTuple):
    """What is known of a request when it ended."""

    at: float
    """Unix seconds of its beginning."""
    method: str
    path: str
    """Without its query."""
    status: int
    seconds: float
    """To the last byte."""
    caller: Context | None
    """None when nobody was authenticated."""
    request_id: str


class AccessLog:
    """Writes lines to a file, or to standard output for ``-``.

    Lines that cannot be written in time are dropped and counted: a full disk must not stop requests.
    """

    def __init__(self, path: str) -> None:
        self._path = None if path == "-" else Path(path)
        self._queue: deque[AccessLine] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._file: int | None = None
        self.dropped = 0
        """Lines lost since start."""

    def start(self) -> None:
        """Begin to write. Raises: OSError: the file cannot be opened."""
        self._reopen()
        self._thread.start()

    def add(self, line: AccessLine) -> None:
        """Take one line; returns at once."""
        if len(self._queue) >= _MOST:
            self.dropped += 1
            return
        self._queue.append(line)

    def close(self) -> None:
        """Write what is queued and stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        if self._file is not None and not self._thread.is_alive():
            # A thread that still writes must not find another file under this number.
            os.close(self._file)
            self._file = None

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = []
        while self._queue:
            lines.append(_written(self._queue.popleft()))
        if not lines:
            return
        data = "".join(lines)
        try:
            if self._path is None:
                sys.stdout.write(data)
                sys.stdout.flush()
                return
            self._reopen()
            assert self._file is not None, "opened just now"
            os.write(self._file, data.encode())
        except OSError as error:
            self.dropped += len(lines)
            _log.warning("the access log cannot be written: %s", error.strerror)

    def _reopen(self) -> None:
        """Open the file, anew when it was renamed or removed."""
        if self._path is None:
            return
        if self._file is not None:
            with contextlib.suppress(FileNotFoundError):
                there, ours = self._path.stat(), os.fstat(self._file)
                if (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev):
                    return
            os.close(self._file)
            self._file = None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)


def _written(line: AccessLine) -> str:
    # Any: JSON.
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds"),
        "request_id": line.request_id or None,
        "method": line.method,
        "path": line.path[:_MAX_PATH],
        "status": line.status,
        "duration_ms": round(line.seconds * 1000, 1),
    }
    caller = line.caller
    if caller is not None:
        told = caller.notices
        fields |= {
            "trace_id": caller.trace_id,
            "tenant": caller.tenant,
            "key": caller.principal.key_id or caller.principal.id,
            "model": told.model[:256] or None,
            "target": told.target or None,
            "input_tokens": told.input_tokens,
            "output_tokens": told.output_tokens,
            "cost_usd": None if told.cost_nano is None else f"{Money(told.cost_nano).decimal():f}",
        }
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    # Ends of lines to some readers of logs, and no more than characters to JSON.
    return _LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"
