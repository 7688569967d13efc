"""Embedders: one file per model family, each with a `plugin` that opens it."""

from interlock.core.plugins import Registry
from interlock.knowledge.ports import EmbedderPlugin

__all__ = ["embedders"]

embedders: Registry[EmbedderPlugin] = Registry("embedder", "interlock.knowledge.embedders", extra="knowledge")
