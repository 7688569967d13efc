"""Rerankers: read a question together with each passage. One file each, with a `plugin` that opens it."""

from interlock.core.plugins import Registry
from interlock.knowledge.retrieval.ports import RerankerPlugin

__all__ = ["rerankers"]

rerankers: Registry[RerankerPlugin] = Registry("reranker", "interlock.knowledge.retrieval.rerankers", extra="knowledge")
