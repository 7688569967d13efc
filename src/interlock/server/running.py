"""Servers of a workspace on this machine: each says that it runs and how its last reload went."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Announcement", "Running", "announced", "ask_to_reload", "running"]

# Any in this module: JSON in files of ours.


@dataclass(frozen=True, slots=True)
class Running:
    """One server process."""

    pid: int
    url: str
    answer: Mapping[str, Any] | None
    """How its last reload went: `token`, `ok`, and the fields of `Reloaded`, or `error`."""


class Announcement:
    """What this server tells others about itself."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self.tell(None)

    @property
    def token(self) -> str:
        """Names the newest request to reload, so that its asker knows the answer; empty without one."""
        try:
            return (self._folder / f"{os.getpid()}.ask").read_text("utf-8")[:64]
        except OSError:
            return ""

    def tell(self, answer: Mapping[str, Any] | None) -> None:
        """Publish how a reload went."""
        path = self._folder / f"{os.getpid()}.json"
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps({"pid": os.getpid(), "url": self._url, "answer": answer}), "utf-8")
        beside.replace(path)


@contextmanager
def announced(data: Path, url: str) -> Iterator[Announcement]:
    """Be listed among the running servers until the block ends.

    The lock on a file, not the file, is what says that a process lives: a process id may be another's by now.
    """
    folder = data / "servers"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / f"{os.getpid()}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Announcement(folder, url)
    finally:
        _forget(folder, os.getpid())
        os.close(lock)


def running(data: Path) -> list[Running]:
    """Servers that run on this machine now, by process id. What dead ones left is removed."""
    folder = data / "servers"
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        pid = int(path.stem)
        if not _lives(folder, pid):
            _forget(folder, pid)
            continue
        with contextlib.suppress(OSError, ValueError):
            raw = json.loads(path.read_text("utf-8"))
            found.append(Running(pid, raw["url"], raw["answer"]))
    return found


def ask_to_reload(data: Path, server: Running, token: str) -> None:
    """Send SIGHUP; the server's `answer` carries `token` once it is done. Raises: OSError."""
    path = data / "servers" / f"{server.pid}.ask"
    path.write_text(token, "utf-8")
    os.kill(server.pid, signal.SIGHUP)


def _lives(folder: Path, pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        handle = os.open(folder / f"{pid}.lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(handle)


def _forget(folder: Path, pid: int) -> None:
    for suffix in ("json", "ask", "lock", "new"):
        (folder / f"{pid}.{suffix}").unlink(missing_ok=True)
