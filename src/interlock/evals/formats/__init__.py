"""Formats that cases are read from. One file each, with a `plugin` that reads."""

from interlock.core.plugins import Registry
from interlock.evals.ports import CaseFormat

__all__ = ["formats"]

formats: Registry[CaseFormat] = Registry("case_format", "interlock.evals.formats", extra="eval")
