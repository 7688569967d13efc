"""The whole report as JSON."""

from __future__ import annotations

import msgspec

from interlock.evals.report import Report

__all__ = ["plugin"]


def plugin(report: Report) -> str:
    """One object, keys as in :class:`~interlock.evals.report.Report`."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"
