"""Vectors of collections that are searched again and again, in memory: a matrix product instead of a scan of a file.

Derived from one revision of the file and used for that revision alone: a search compares the two within its own
snapshot, so that a row that was removed, or whose readers changed, is in no later search whoever wrote it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Near", "Place", "VectorMemory", "Vectors"]

_LEAST_ROWS = 2_000
"""Of fewer rows the file is read as fast."""


class Place(NamedTuple):
    """A collection of a file."""

    path: Path
    collection: int


class Near(NamedTuple):
    """A row and its cosine similarity."""

    row: int
    score: float


@dataclass(frozen=True, slots=True)
class Vectors:
    """All rows of one collection at one revision, rows of one set of readers beside one another."""

    revision: int
    rows: NDArray[np.int64]
    """Row ids, `(n,)`."""
    sets: NDArray[np.int64]
    """The set of readers of each row, ascending, `(n,)`."""
    matrix: NDArray[np.float32]
    """L2-normalised, `(n, dimensions)`."""

    @classmethod
    def of(
        cls, revision: int, rows: NDArray[np.int64], sets: NDArray[np.int64], matrix: NDArray[np.float32]
    ) -> Vectors:
        """From columns in any order; vectors need not be normalised."""
        import numpy as np

        order = np.argsort(sets, kind="stable")
        sorted_matrix = np.ascontiguousarray(matrix[order])
        sorted_matrix /= np.maximum(np.linalg.norm(sorted_matrix, axis=1, keepdims=True), 1e-12)
        return cls(revision, rows[order], sets[order], sorted_matrix)

    def nearest(self, query: NDArray[np.float32], allowed: Collection[int], k: int) -> list[Near]:
        """The `k` nearest rows of the allowed sets, best first; rows of other sets are not compared at all.

        Args:
            query: any length but 0.
            allowed: sets of readers.
            k: at most so many.
        """
        import numpy as np

        unit = (query / np.linalg.norm(query)).astype(np.float32)
        parts = [slice(start, end) for start, end in self._runs(allowed)]
        if not parts:
            return []
        scores = np.concatenate([self.matrix[part] @ unit for part in parts])
        rows = np.concatenate([self.rows[part] for part in parts])
        if len(scores) > k:
            # Not the best k alone: of equal ones the first row wins.
            least = np.partition(scores, len(scores) - k)[len(scores) - k]
            best = np.flatnonzero(scores >= least)
            scores, rows = scores[best], rows[best]
        scores = scores.round(6)
        order = np.lexsort((rows, -scores))[:k]
        return [Near(int(rows[one]), float(scores[one])) for one in order]

    def _runs(self, allowed: Collection[int]) -> list[tuple[int, int]]:
        """Where rows of `allowed` sets lie, neighbours as one."""
        import numpy as np

        numbers = np.unique(np.fromiter(allowed, dtype=np.int64, count=len(allowed)))
        starts = np.searchsorted(self.sets, numbers, "left")
        ends = np.searchsorted(self.sets, numbers, "right")
        runs: list[tuple[int, int]] = []
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if start == end:
                continue
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((start, end))
        return runs


class VectorMemory:
    """The vectors kept, the longest unused given up first. Used from several threads.

    A collection is worth keeping once two searches in a row found it unchanged: beside an ingest it would be read
    again for each search.

    Args:
        most_bytes: of all that is kept; a collection that is larger alone is never kept.
        least_rows: smaller collections are never kept.
    """

    def __init__(self, most_bytes: int, *, least_rows: int = _LEAST_ROWS) -> None:
        self.most_bytes = most_bytes
        self.least_rows = least_rows
        self._kept: OrderedDict[Place, Vectors] = OrderedDict()
        self._seen: OrderedDict[Place, tuple[int, bool]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Collections kept."""
        return len(self._kept)

    def find(self, place: Place, revision: int) -> Vectors | None:
        """What is kept of this revision; what is kept of another one is given up."""
        with self._lock:
            found = self._kept.get(place)
            if found is None:
                return None
            if found.revision != revision:
                del self._kept[place]
                return None
            self._kept.move_to_end(place)
            return found

    def wants(self, place: Place, revision: int) -> bool:
        """Whether the place should be read now: true once for a revision, at its second search."""
        if not self.most_bytes:
            return False
        with self._lock:
            seen, asked = self._seen.get(place, (None, False))
            again = seen == revision
            self._seen[place] = (revision, again)
            self._seen.move_to_end(place)
            while len(self._seen) > 10_000:
                self._seen.popitem(last=False)
            return again and not asked

    def fits(self, rows: int, dimensions: int) -> bool:
        """Whether a collection of this size is kept."""
        return rows >= self.least_rows and rows * dimensions * 4 <= self.most_bytes

    def keep(self, place: Place, vectors: Vectors) -> None:
        """Keep it, and give up others for it."""
        with self._lock:
            self._kept[place] = vectors
            self._kept.move_to_end(place)
            while sum(one.matrix.nbytes for one in self._kept.values()) > self.most_bytes:
                self._kept.popitem(last=False)

    def forget(self, path: Path) -> None:
        """Give up what is kept of a file that was changed or removed."""
        with self._lock:
            for place in [one for one in self._kept if one.path == path]:
                del self._kept[place]
