"""Connectors: one file per kind of source, each with a `plugin`; ``kind:`` of a source names the file."""

from interlock.core.plugins import Registry
from interlock.knowledge.ports import ConnectorPlugin

__all__ = ["connectors"]

connectors: Registry[ConnectorPlugin] = Registry("connector", "interlock.knowledge.connectors", extra="knowledge")
