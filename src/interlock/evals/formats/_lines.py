"""Lines of a text file, bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interlock.core.errors import InvalidInput

__all__ = ["json_lines"]

MOST_LINE_BYTES = 4 << 20


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:  # Any: whatever the line holds
    """Where a line stands, and the object on it. Empty lines are left out.

    Raises: InvalidInput: a line is too long, no UTF-8, no JSON, or no object.
    """
    with path.open("rb") as lines:
        for number in range(1, 1 << 40):
            raw = lines.readline(MOST_LINE_BYTES + 1)
            if not raw:
                return
            place = f"line {number}"
            if len(raw) > MOST_LINE_BYTES:
                raise InvalidInput(f"{place} of {path.name!r} is longer than {MOST_LINE_BYTES >> 20} MiB", param=place)
            if not raw.strip():
                continue
            try:
                value = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise InvalidInput(f"{place} of {path.name!r} is not UTF-8", param=place) from error
            except (ValueError, RecursionError) as error:
                raise InvalidInput(f"{place} of {path.name!r} is not JSON", param=place) from error
            if not isinstance(value, dict):
                raise InvalidInput(f"{place} of {path.name!r} is no JSON object", param=place)
            yield place, value
