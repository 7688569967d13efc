"""Forms that a report is written in. One file each, with a `plugin` that gives its text."""

from collections.abc import Callable

from interlock.core.plugins import Registry
from interlock.evals.report import Report

__all__ = ["exports"]

exports: Registry[Callable[[Report], str]] = Registry("report_format", "interlock.evals.exports", extra="eval")
