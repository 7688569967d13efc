"""BM25 over what one caller may read, from FTS5's postings: nothing that others alone may read weighs in.

FTS5's own `bm25()` counts every row of its table: how rare a word is in documents that a caller may not read would
show in the scores of those that they may. Here the postings of each word are read (`fts5vocab`), those of unreadable
rows are left out before anything is counted, and numpy does the sums with FTS5's formula and constants.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interlock.core.ids import DocumentId
from interlock.stores.index import _rows
from interlock.stores.index.memory import Near, Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["WORDS_OF_ROW", "RowMemory", "Rows", "best_rows", "read_rows"]

WORDS_OF_ROW = (
    "(SELECT length(terms) - length(replace(terms, ' ', '')) + (terms <> '') FROM words_{collection}"
    " WHERE rowid = passage.id)"
)
"""Number of words of a passage, by its collection's number: words are joined by single spaces."""


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of one collection at one revision: who may read each, and how long it is."""

    revision: int
    rows: NDArray[np.int64]
    """Row ids, ascending, `(n,)`."""
    sets: NDArray[np.int64]
    """The set of readers of each row, `(n,)`."""
    lengths: NDArray[np.int64]
    """Words of each row, `(n,)`."""

    @property
    def nbytes(self) -> int:
        """What it takes of memory."""
        return self.rows.nbytes + self.sets.nbytes + self.lengths.nbytes


class RowMemory:
    """Rows of the collections asked for last, the longest unused given up first. Used from several threads.

    Args:
        most_bytes: of all that is kept; a collection that is larger alone is read for each search.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Place, Rows] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def find(self, place: Place, revision: int) -> Rows | None:
        """What is kept of this revision."""
        with self._lock:
            found = self._kept.get(place)
            if found is None or found.revision != revision:
                return None
            self._kept.move_to_end(place)
            return found

    def keep(self, place: Place, rows: Rows) -> None:
        """Keep it, and give up others for it."""
        with self._lock:
            before = self._kept.pop(place, None)
            self._kept[place] = rows
            self._bytes += rows.nbytes - (before.nbytes if before else 0)
            while self._bytes > self._most_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes


# Any: the driver has no types.
def read_rows(connection: Any, collection: int, revision: int) -> Rows:
    """The rows of a collection as they are in the connection's snapshot."""
    import numpy as np

    # One text a column: a tuple a row takes eight times as long. A row without a length was written by a release that
    # stored none.
    counted = f"coalesce(length, {WORDS_OF_ROW.format(collection=collection)})"
    columns = connection.execute(
        f"SELECT group_concat(id), group_concat(aclset), group_concat({counted})"  # noqa: S608 - our own number
        " FROM passage WHERE collection_id = ?",
        (collection,),
    ).fetchone()
    rows, sets, lengths = (_numbers(column) for column in columns)
    order = np.argsort(rows, kind="stable")
    return Rows(revision, rows[order], sets[order], lengths[order])


# Any: the driver has no types.
def best_rows(
    connection: Any,
    collection: int,
    known: Rows,
    words: Sequence[str],
    *,
    allowed: Collection[int],
    k: int,
    documents: Collection[DocumentId] | None,
) -> list[Near]:
    """The `k` rows of the allowed sets with the highest BM25, best first; of equal ones the first row wins.

    Args:
        connection: in the snapshot that `known` was read from.
        collection: its number.
        known: its rows.
        words: distinct, as stored.
        allowed: sets of readers.
        k: at most so many.
        documents: narrows what is found to rows of these; what a word weighs stays as it is without.
    """
    import numpy as np

    readable = np.isin(known.sets, np.fromiter(allowed, dtype=np.int64, count=len(allowed)))
    count = int(readable.sum())
    if not count:
        return []
    mean = float(known.lengths[readable].sum()) / count
    scores = np.zeros(len(known.rows))
    named = np.zeros(len(known.rows), dtype=bool)
    for places, times in _postings(connection, collection, known, words):
        mine = readable[places]
        places, times = places[mine], times[mine]
        weight = _rows.idf(count, len(places))
        length = known.lengths[places] / mean
        scores[places] += weight * (times * (_rows.K1 + 1) / (times + _rows.K1 * (1 - _rows.B + _rows.B * length)))
        named[places] = True
    if documents is not None:
        named &= np.isin(known.rows, _rows_of(connection, collection, documents))
    found = np.flatnonzero(named)
    if len(found) > k:
        # Not the best k alone: of equal ones the first row wins.
        least = np.partition(scores[found], len(found) - k)[len(found) - k]
        found = found[scores[found] >= least]
    best = found[np.lexsort((known.rows[found], -scores[found]))[:k]]
    return [Near(int(known.rows[one]), float(scores[one])) for one in best]


# Any: the driver has no types.
def _postings(
    connection: Any, collection: int, known: Rows, words: Sequence[str]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Of each word that is there: the places in `known` of the rows that hold it, and how often each does."""
    import numpy as np

    # Of this connection alone, gone with its transaction: nothing of it is stored.
    connection.execute(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.postings_{collection}"
        f" USING fts5vocab(main, words_{collection}, instance)"
    )
    found = []
    for word in words:
        (column,) = connection.execute(
            f"SELECT group_concat(doc) FROM temp.postings_{collection} WHERE term = ?",  # noqa: S608 - our own number
            (word,),
        ).fetchone()
        if column is not None:
            rows, times = np.unique(_numbers(column), return_counts=True)
            found.append((np.searchsorted(known.rows, rows), times))
    return found


# Any: the driver has no types.
def _rows_of(connection: Any, collection: int, documents: Collection[DocumentId]) -> NDArray[np.int64]:
    (column,) = connection.execute(
        "SELECT group_concat(id) FROM passage WHERE collection_id = ?"
        " AND document_id IN (SELECT value FROM json_each(?))",
        (collection, json.dumps(list(documents))),
    ).fetchone()
    return _numbers(column)


def _numbers(column: str | None) -> NDArray[np.int64]:
    """Whole numbers joined by commas; none of None."""
    import numpy as np

    return np.fromstring(column or "", dtype=np.int64, sep=",")
