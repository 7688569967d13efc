"""Accounts leave lines in the audit log, and one address cannot try everybody's door."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.app import open_app
from interlock.core.context import Role
from interlock.core.errors import LimitExceeded, Unauthenticated
from interlock.templates import write_template

PASSWORD = "correct horse battery"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_template("gateway", tmp_path / "acme")
    return tmp_path / "acme"


async def test_making_an_account_and_signing_in_are_audited_with_their_outcome(workspace: Path) -> None:
    async with open_app(workspace) as app:
        accounts, tenant = app.parts.access.accounts, app.workspace.settings.tenant
        await accounts.create(tenant, "ana", PASSWORD, roles=[Role.ADMIN])
        await accounts.set_password(tenant, "ana", PASSWORD + "!")
        with pytest.raises(Unauthenticated):
            await accounts.sign_in(tenant, "ana", "a wrong password", "10.0.0.1")
        await accounts.sign_in(tenant, "ana", PASSWORD + "!", "10.0.0.1")
        await app.parts.governance.flush()
        lines = [(line.action, line.outcome, line.end_user) for line in await app.parts.governance.lines(app.owner())]
    assert lines[::-1] == [
        ("account.create", "ok", "ana"),
        ("account.password", "ok", "ana"),
        ("session.open", "invalid_credentials", "ana"),
        ("session.open", "ok", "ana"),
    ]


async def test_one_address_cannot_try_the_door_of_everybody(workspace: Path) -> None:
    flags = {"access": {"sign_in_attempts": 1}}
    async with open_app(workspace, flags=flags) as app:
        accounts, tenant = app.parts.access.accounts, app.workspace.settings.tenant
        refused = 0
        for number in range(7):
            try:
                await accounts.sign_in(tenant, f"user{number}", "a wrong password", "10.0.0.9")
            except LimitExceeded:
                refused += 1
            except Unauthenticated:
                pass
        assert refused == 2, "five names' worth of failures, then the address waits"
        with pytest.raises(Unauthenticated):
            await accounts.sign_in(tenant, "user1", "a wrong password", "10.0.0.10")
