"""Readers: whether a sentence answers a question. One file each, with a `plugin` that opens it."""

from interlock.core.plugins import Registry
from interlock.knowledge.ports import ReaderPlugin

__all__ = ["readers"]

readers: Registry[ReaderPlugin] = Registry("reader", "interlock.knowledge.readers", extra="knowledge")
