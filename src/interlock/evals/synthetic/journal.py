"""What a run of making cases has done, on disk, so that one that was killed goes on. Holds no text of a document."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from interlock.core.errors import Conflict
from interlock.evals.synthetic.types import Fault, Kind

__all__ = ["Step", "Steps"]


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: a kind of case of one passage, a call of the model, or what the trials of the model said."""

    unit: str = ""
    kind: Kind | None = None
    case: str = ""
    """Id of the case that was sent to its queue."""
    thrown: dict[Fault, int] = {}
    call_nano: int | None = None
    """What a call cost; None for another kind of line."""
    model_note: str | None = None
    """Empty: the model may be used."""


class Steps:
    """The file of one run, held by one process. Blocking; lines are small.

    Raises: Conflict: another process makes the same.
    """

    def __init__(self, file: Path, *, fresh: bool = False) -> None:
        self._file = file
        self._fresh = fresh
        self._lines: Any = None  # Any: an open binary file
        self.done: dict[str, Step] = {}
        self._sent: Counter[Kind | None] = Counter()
        self.calls = 0
        self.spent_nano = 0
        self.model_note: str | None = None

    def __enter__(self) -> Steps:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lines = self._file.open("ab+")
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lines.close()
            raise Conflict(
                "another process makes these cases now", param="suite", hint="wait until it has ended", retryable=True
            ) from error
        if self._fresh:
            self._lines.truncate(0)
        self._lines.seek(0)
        whole = 0
        for line in self._lines:
            # A process that died while it wrote left half a line.
            with contextlib.suppress(msgspec.DecodeError):
                if line.endswith(b"\n"):
                    self._take(msgspec.json.decode(line, type=Step))
                    whole += len(line)
                    continue
            break
        self._lines.truncate(whole)
        return self

    def __exit__(self, *exc: object) -> None:
        self._lines.close()

    def _take(self, step: Step) -> None:
        if step.unit:
            self.done[step.unit] = step
            self._sent[step.kind] += bool(step.case)
        if step.call_nano is not None:
            self.calls += 1
            self.spent_nano += step.call_nano
        if step.model_note is not None:
            self.model_note = step.model_note

    def add(self, step: Step) -> None:
        """Write one step down."""
        self._take(step)
        self._lines.write(msgspec.json.encode(step) + b"\n")
        self._lines.flush()
        os.fsync(self._lines.fileno())

    def thrown(self, kind: Kind) -> Counter[Fault]:
        """All of one kind."""
        found: Counter[Fault] = Counter()
        for step in self.done.values():
            if step.kind == kind:
                found.update(step.thrown)
        return found

    def sent(self, kind: Kind) -> int:
        """All of one kind."""
        return self._sent[kind]
