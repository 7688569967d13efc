"""Reservations that outlive their worker: what a killed worker's journal says of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from decimal import Decimal

import pytest

from interlock.app import open_app
from interlock.core.messages import Usage
from interlock.core.money import Money
from interlock.cost.handed import Handed, cheaper
from interlock.testing.workspaces import write_workspace

ESTIMATE = Usage(1000, 500, estimated=True)
PRICES = {"paid/*": {"input_per_million": "10", "output_per_million": "20"}}
LIMITS = [
    {"name": "tokens", "tokens": 100_000, "period": "day"},
    {"name": "money", "money": "1", "period": "day"},
    {"name": "asks", "requests": 100, "period": "day"},
]


def workspace(folder):
    settings = {
        "gateway": {"providers": {"paid": {"kind": "scripted"}}},
        "cost": {"prices": PRICES, "limits": LIMITS},
    }
    return write_workspace(folder / "w", settings=settings)


async def used(app):
    await app.parts.cost.admission.tidy(all_of_it=True)
    found = await app.parts.cost.admission.use(app.owner().tenant)
    return {use.rule.name: use.used for use in found}


async def handed_over(app):
    costs = app.parts.cost
    return await costs.hand_over(costs.open(app.owner(), None), "paid", "m", ESTIMATE, Decimal("0.5"))


CHILD = """
import asyncio, json, os, sys
from decimal import Decimal
from pathlib import Path
from interlock.app import open_app
from interlock.core.messages import Usage

async def main(folder, rotated, kept):
    async with open_app(Path(folder)) as app:
        costs = app.parts.cost
        bill = costs.open(app.owner(), None)
        handed = await costs.hand_over(bill, "paid", "m", Usage(1000, 500, estimated=True), Decimal("0.5"))
        if rotated:
            await costs.rotate()
        if kept:
            handed.let_go(costs)
            if rotated:
                await costs.rotate()
        print(json.dumps(handed.stored()), flush=True)
        os.kill(os.getpid(), 9)

asyncio.run(main(sys.argv[1], sys.argv[2] == "True", sys.argv[3] == "True"))
"""


def killed(folder, *, rotated, kept):
    """A worker that reserves, maybe has it written down, and is killed; gives what it would have written down."""
    command = [sys.executable, "-c", CHILD, str(folder), str(rotated), str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("rotated", [False, True])
async def test_what_was_written_down_stays_reserved_when_its_worker_is_killed(tmp_path, rotated):
    folder = workspace(tmp_path)
    stored = await asyncio.to_thread(killed, folder, rotated=rotated, kept=True)
    async with open_app(folder) as app:
        assert await used(app) == {"tokens": 1500, "money": 10_000_000, "asks": 1}
        assert await app.parts.cost.ledger(app.owner()) == []
        handed = Handed.read(stored)
        app.parts.cost.charge_handed(handed, Usage(100, 50))
        await app.sql.write(handed.book)
        await app.sql.write(handed.book)
        await handed.put_right(app.parts.cost)
        (row,) = await app.parts.cost.ledger(app.owner())
        assert (row.cost.nano, row.price) == (1_000_000, "override:paid/* batch -50%")
        assert await used(app) == {"tokens": 150, "money": 1_000_000, "asks": 1}


@pytest.mark.parametrize("rotated", [False, True])
async def test_what_was_not_written_down_is_given_back_when_its_worker_is_killed(tmp_path, rotated):
    folder = workspace(tmp_path)
    await asyncio.to_thread(killed, folder, rotated=rotated, kept=False)
    async with open_app(folder) as app:
        assert await used(app) == {"tokens": 0, "money": 0, "asks": 1}
        assert await app.parts.cost.ledger(app.owner()) == []


async def test_more_than_was_reserved_is_owed(tmp_path):
    async with open_app(workspace(tmp_path)) as app:
        handed = await handed_over(app)
        handed.let_go(app.parts.cost)
        app.parts.cost.charge_handed(handed, Usage(3000, 1000))
        await handed.put_right(app.parts.cost)
        assert await used(app) == {"tokens": 4000, "money": 25_000_000, "asks": 1}


def test_a_discount_rounds_half_a_nano_dollar_to_even():
    half = Decimal("0.5")
    assert [cheaper(Money(nano), half).nano for nano in (1, 3, 10)] == [0, 2, 5]
    assert cheaper(None, half) is None
    assert cheaper(Money(7), Decimal(0)) == Money(7)
