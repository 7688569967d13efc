"""The job queue over both relational databases."""

from __future__ import annotations

import pytest

from interlock.stores.jobs.base import Jobs
from interlock.stores.jobs.sql import SqlJobs
from interlock.stores.sql import Sql
from interlock.testing.stores import JobsSuite


class TestSql(JobsSuite):
    @pytest.fixture
    def jobs(self, any_sql: Sql) -> Jobs:
        return SqlJobs(any_sql)
