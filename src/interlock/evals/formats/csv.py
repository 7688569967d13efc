"""A table with a column a field: `id`, `input`, `expected`, `tags`, `slices.language` …

Parted by comma, semicolon or tab. Lists and objects stand in their cells as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from interlock.evals.formats._cells import fields_of
from interlock.evals.formats._tables import csv_rows

__all__ = ["Csv", "plugin"]


class Csv:
    """See the module."""

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:  # Any: fields before validation
        """See `CaseFormat`."""
        for number, (place, row) in enumerate(csv_rows(path), start=1):
            yield place, fields_of(row, f"{place} of {path.name!r}", number)


plugin = Csv()
