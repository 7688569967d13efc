"""Conformance suites: one class a kind of store.

Subclass the one of your kind as ``Test…`` and give the fixture that opens an empty store; pytest does the rest. Async
tests run under the anyio plug-in (``anyio_mode = auto``) with the asyncio back end.
"""

from interlock.testing.stores.blob import BlobsSuite
from interlock.testing.stores.events import EventsSuite
from interlock.testing.stores.index import IndexSuite
from interlock.testing.stores.jobs import JobsSuite
from interlock.testing.stores.kv import KvSuite
from interlock.testing.stores.sql import SqlSuite

__all__ = ["BlobsSuite", "EventsSuite", "IndexSuite", "JobsSuite", "KvSuite", "SqlSuite"]
