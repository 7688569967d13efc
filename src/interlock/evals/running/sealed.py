"""Held-out sets: every run on one is written down, so that a set that was looked at too often is known to be worn."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from pathlib import Path

from interlock.core.clock import now
from interlock.core.errors import Conflict, InvalidInput
from interlock.evals.suite import Suite

__all__ = ["SealedUses"]


class SealedUses:
    """An append-only file: one line a use, by the digest of the file's cases, whatever the file is called."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def counted(self, suite: Suite) -> dict[str, int]:
        """Uses of each of the suite's sealed files so far, by digest."""
        used = self._read()
        return {digest: used[digest] for digest in suite.sealed}

    def use(self, suite: Suite, run: str) -> dict[str, int]:
        """Count one more use of each, and give the counts.

        Raises: Conflict: one of them may not be used again.
        """
        if not suite.sealed:
            return {}
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            used = self._read()
            for digest, entry in suite.sealed.items():
                if entry.most_uses is not None and used[digest] >= entry.most_uses:
                    raise Conflict(
                        f"the sealed file {entry.file!r} was used {used[digest]} times, as often as it may be",
                        param="cases.most_uses",
                        hint="draw new held-out cases: what is looked at again and again is fitted to",
                    )
            for digest in suite.sealed:
                line = {"cases": digest, "suite": suite.name, "run": run, "at": now().isoformat()}
                file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return self.counted(suite)

    def _read(self) -> Counter[str]:
        used: Counter[str] = Counter()
        try:
            lines = self._path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return used
        for number, line in enumerate(lines, start=1):
            try:
                used[str(json.loads(line)["cases"])] += 1
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidInput(
                    f"line {number} of {self._path.name!r} is damaged: uses of sealed sets cannot be counted",
                    param="sealed",
                ) from error
        return used
