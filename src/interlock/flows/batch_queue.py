"""Lines of a batch that are not begun: those of a model that asked for time wait, the others go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta

from interlock.core.clock import now
from interlock.flows.batch_lines import AskedLine

__all__ = ["Pauses", "Queue"]

_MOST_STORED = 100


class Pauses:
    """Until when lines of a model wait: it asked for time, or a limit on it was met.

    Args:
        stored: what an earlier run of the batch left; seconds since 1970 by model.
    """

    def __init__(self, stored: object = None) -> None:
        self._until: dict[str, float] = {}
        if isinstance(stored, Mapping):
            self._until = {str(model): float(until) for model, until in stored.items()}

    def add(self, model: str, seconds: float) -> None:
        """Let its lines wait for so long at least."""
        until = (now() + timedelta(seconds=seconds)).timestamp()
        self._until[model] = max(until, self._until.get(model, 0.0))

    def left_s(self, model: str) -> float:
        """Seconds that are left; 0 when its lines may be asked."""
        left = self._until.get(model, 0.0) - now().timestamp()
        if left <= 0:
            self._until.pop(model, None)
        return max(0.0, left)

    def stored(self) -> dict[str, float]:
        """The longest ones, to be stored."""
        longest = sorted(self._until.items(), key=lambda item: item[1], reverse=True)
        return dict(longest[:_MOST_STORED])


class Queue:
    """In the order of the input, as far as nothing waits."""

    def __init__(self, lines: Sequence[AskedLine], pauses: Pauses) -> None:
        self._lines = deque(lines)
        self._pauses = pauses
        self._aside: dict[str, list[AskedLine]] = {}

    def __len__(self) -> int:
        return len(self._lines) + sum(map(len, self._aside.values()))

    def rest(self) -> list[AskedLine]:
        """All that are left."""
        return [*self._lines, *(line for lines in self._aside.values() for line in lines)]

    def back(self, line: AskedLine) -> None:
        """One that was begun and must be asked again."""
        self._lines.appendleft(line)

    def wait_s(self) -> float:
        """Seconds until a line can be begun; 0 when one can be now, or when none is left."""
        self._sort()
        return 0.0 if self._lines or not self._aside else min(map(self._pauses.left_s, self._aside))

    def next(self) -> AskedLine | None:
        """The first that need not wait."""
        self._sort()
        return self._lines.popleft() if self._lines else None

    def _sort(self) -> None:
        """Bring a line to the front that need not wait, if there is one."""
        for model in [model for model in self._aside if not self._pauses.left_s(model)]:
            self._lines.extendleft(reversed(self._aside.pop(model)))
        while self._lines and self._pauses.left_s(self._lines[0].model):
            line = self._lines.popleft()
            self._aside.setdefault(line.model, []).append(line)
