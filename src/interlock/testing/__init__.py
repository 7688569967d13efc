"""For authors of plug-ins and back ends: conformance suites and real servers for tests. Needs pytest."""

import pytest

pytest.register_assert_rewrite(
    "interlock.testing.stores", "interlock.testing.providers", "interlock.testing.connectors"
)
