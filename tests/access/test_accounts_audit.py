"""Accounts leave lines in the audit log, and one address cannot try everybody's door."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from interlock.app import open_app
from interlock.core.context import Role
from interlock.core.errors import Conflict, LimitExceeded, NotFound, Unauthenticated
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


async def test_a_disabled_or_changed_account_loses_its_sessions_at_once_and_leaves_a_line(workspace: Path) -> None:
    async with open_app(workspace) as app:
        accounts, tenant = app.parts.access.accounts, app.workspace.settings.tenant
        await accounts.create(tenant, "ana", PASSWORD, roles=[Role.ADMIN], groups=["staff"])
        await accounts.create(tenant, "bo", PASSWORD, roles=[Role.VIEWER])
        secret, _ = await accounts.sign_in(tenant, "ana", PASSWORD, "10.0.0.1")
        other, _ = await accounts.sign_in(tenant, "bo", PASSWORD, "10.0.0.1")

        changed = await accounts.change(tenant, "ana", roles=[Role.VIEWER])
        assert (changed.roles, changed.groups) == ({Role.VIEWER}, {"staff"})
        assert await accounts.session(secret) is None
        secret, session = await accounts.sign_in(tenant, "ana", PASSWORD, "10.0.0.1")
        assert session.account.roles == {Role.VIEWER}

        await accounts.change(tenant, "ana", disabled=True)
        assert await accounts.session(secret) is None
        with pytest.raises(Unauthenticated):
            await accounts.sign_in(tenant, "ana", PASSWORD, "10.0.0.1")
        assert await accounts.session(other) is not None, "others stay signed in"

        await accounts.change(tenant, "ana", disabled=False, groups=[])
        _, session = await accounts.sign_in(tenant, "ana", PASSWORD, "10.0.0.1")
        assert session.account.groups == frozenset()
        with pytest.raises(NotFound):
            await accounts.change(tenant, "nobody", disabled=True)
        lines = await app.parts.governance.lines(app.owner(), action="account.change")
    assert [(line.end_user, line.details) for line in lines[::-1]] == [
        ("ana", {"roles": "viewer", "disabled": False}),
        ("ana", {"roles": "viewer", "disabled": True}),
        ("ana", {"roles": "viewer", "disabled": False}),
    ]


async def test_a_revoked_signing_key_signs_nothing_more_and_leaves_a_line(workspace: Path) -> None:
    async with open_app(workspace) as app:
        access, owner, tenant = app.parts.access, app.owner(), app.workspace.settings.tenant
        before = await access.tokens.mint(tenant, user="ana", groups=[])
        assert (await access.tokens.verify(tenant, before)).user.id == "ana"
        await access.revoke_signer(owner, "default")
        with pytest.raises(Unauthenticated):
            await access.tokens.verify(tenant, before)
        after = await access.tokens.mint(tenant, user="ana", groups=[])
        assert (await access.tokens.verify(tenant, after)).user.id == "ana", "a new secret is made when it is needed"

        private = ed25519.Ed25519PrivateKey.generate()
        pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        await access.register_signer(owner, "idp", "EdDSA", pem)
        await access.revoke_signer(owner, "idp")
        assert {key.kid: key.state for key in await access.signers(owner)} == {"default": "active", "idp": "revoked"}
        with pytest.raises(Conflict):
            await access.register_signer(owner, "idp", "EdDSA", pem)
        with pytest.raises(NotFound):
            await access.revoke_signer(owner, "idp")
        lines = await app.parts.governance.lines(owner, action="signer.revoke")
    assert [line.subject for line in lines] == ["idp", "default"]
