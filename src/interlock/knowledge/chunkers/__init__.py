"""Chunkers: one file each, with a `plugin`."""

from interlock.core.plugins import Registry
from interlock.knowledge.ports import Chunker

__all__ = ["chunkers"]

chunkers: Registry[Chunker] = Registry("chunker", "interlock.knowledge.chunkers", extra="knowledge")
