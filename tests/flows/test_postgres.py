"""The whole of it on PostgreSQL: control plane, ledger, audit log and vector index in one database."""

from __future__ import annotations

import pytest

import interlock.testing.postgres
from interlock.core.answers import Answer
from interlock.testing.postgres import fresh_database

from .conftest import open_house

postgres_server = interlock.testing.postgres.postgres_server
pytestmark = [pytest.mark.model, pytest.mark.postgres]


async def test_an_app_answers_bills_and_records_on_postgresql(tmp_path, models_dir, postgres_server):
    stores = {"sql": fresh_database(postgres_server)}
    async with open_house(tmp_path, models_dir, settings={"stores": stores}) as house:
        assert house.app.sql.dialect == "postgresql"
        outcome = await house.call("helper", "How many days have customers to return hardware?")
        answer = next(event for event in outcome.events if isinstance(event, Answer))
        assert answer.citations[0].source == "returns.md"
        assert [row.outcome for row in outcome.ledger] == ["ok"]
        assert [line.outcome for line in outcome.audit] == ["ok"]
        question = "What is the salary band of a senior engineer in Leeds?"
        assert "61,000" not in str((await house.call("helper", question)).events)
        member = await house.call("helper", question, ctx=house.caller("fay", ["finance"]))
        assert "61,000" in str(member.events)
        assert (await house.app.parts.governance.verify()).ok
        spent = await house.app.parts.cost.ledger(house.caller(), limit=100)
        assert len({row.end_user for row in spent}) == 2
        assert all(row.end_user.startswith("user:") for row in spent)
