"""Checkers: whether a passage says what a claim says. One file each, with a `plugin` that opens it."""

from interlock.core.plugins import Registry
from interlock.knowledge.ports import CheckerPlugin

__all__ = ["checkers"]

checkers: Registry[CheckerPlugin] = Registry("checker", "interlock.knowledge.checkers", extra="knowledge")
