"""Our own: one case a line."""

from __future__ import annotations

from interlock.evals.formats._lines import json_lines

__all__ = ["JsonLines", "plugin"]


class JsonLines:
    """Fields as in :class:`~interlock.evals.types.Case`."""

    read = staticmethod(json_lines)


plugin = JsonLines()
