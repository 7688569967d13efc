"""What one run may take out of one source: an outage that looks like an empty place must not empty a collection."""

from __future__ import annotations

from collections.abc import Collection

from interlock.core.errors import Unavailable
from interlock.knowledge.globs import matches
from interlock.knowledge.sources import Source

__all__ = ["TOO_MANY", "Removals"]

TOO_MANY = "too_many_removals"
"""Code of a source that keeps its documents until somebody confirms that they may go."""
_MANY = 20
"""Documents from which on losing more than half of them is not believed."""


class Removals:
    """Counts what a listing of a source says is gone.

    Args:
        source: as the file has it now.
        held: paths of its documents when the run began.
        allowed: whether somebody confirmed that most or all of it may go.
    """

    def __init__(self, source: Source, held: Collection[str], *, allowed: bool) -> None:
        self._source = source
        # What the file leaves out by now was taken out by whoever changed the file.
        self._held = frozenset(path for path in held if self._is_asked_for(path))
        self._allowed = allowed or source.allow_removals
        self._gone: set[str] = set()

    def confirm(self) -> None:
        """From now on everything may go."""
        self._allowed = True

    def refusal(self, gone: Collection[str], named: Collection[str]) -> Unavailable | None:
        """Why these must stay, too; None when they may go. What was let go before counts.

        Args:
            gone: paths.
            named: everything that the listing named so far.
        """
        wanted = self._gone | (self._held & frozenset(gone))
        added = sum(path not in self._held for path in named)
        # A small source whose few documents were renamed is no outage; one that says less than before may be.
        is_all = bool(wanted) and wanted == self._held and added < len(wanted)
        is_most = len(self._held) >= _MANY and len(wanted) * 2 > len(self._held)
        if not self._allowed and (is_all or is_most):
            return Unavailable(
                f"the source {self._source.name!r} would lose {len(wanted)} of its {len(self._held)} documents;"
                " they were kept",
                param="sources.allow_removals",
                code=TOO_MANY,
                retryable=False,
                hint="look whether the source is all there; when they are really gone: interlock ingest"
                " --allow-removals, or allow_removals: true on the source",
            )
        self._gone = wanted
        return None

    def _is_asked_for(self, path: str) -> bool:
        prefix = self._source.prefix.rstrip("/")
        relative = path.removeprefix(f"{prefix}/") if prefix else path
        if prefix and relative == path:
            return False
        return any(matches(glob, relative) for glob in self._source.include) and not any(
            matches(glob, relative) for glob in self._source.exclude
        )
