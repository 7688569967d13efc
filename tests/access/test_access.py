"""Keys, tokens, accounts: on both dialects."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

import interlock.testing.postgres
from interlock.access.accounts import Accounts
from interlock.access.directory import read_directory, user_of
from interlock.access.keys import Keys
from interlock.access.service import Access
from interlock.access.settings import AccessSettings
from interlock.access.tokens import Tokens
from interlock.core.clock import now
from interlock.core.context import Context, Principal, Role
from interlock.core.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    Misconfigured,
    NotFound,
    Unauthenticated,
)
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.sealing import Sealer
from interlock.core.trace import NullSink
from interlock.stores.kv.sql import SqlKv
from interlock.stores.sql import open_sql
from interlock.testing.postgres import fresh_database

postgres_server = interlock.testing.postgres.postgres_server
ACME, RIVAL = TenantId("acme"), TenantId("rival")


class Lines:
    """An audit log that keeps what it is told."""

    def __init__(self):
        self.events = []

    async def append(self, event):
        self.events.append(event)

    def append_soon(self, event):
        self.events.append(event)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def access(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'control.db'}"
    if request.param == "postgresql":
        url = fresh_database(request.getfixturevalue("postgres_server"))
    sql = open_sql(url)
    await sql.migrate()
    settings = AccessSettings(sign_in_attempts=3)
    yield Access(
        settings=settings,
        tenant=ACME,
        keys=Keys(sql),
        tokens=Tokens(sql, Sealer(tmp_path / "master.key"), 900),
        accounts=Accounts(sql, SqlKv(sql), settings, Lines()),
        directory={},
        audit=Lines(),
        sink=NullSink(),
    )
    await sql.close()


def holder(*roles):
    return Context(ACME, Principal(PrincipalId("p"), "user", frozenset(roles)))


ADMIN = holder(Role.ADMIN)


async def signed_in(access, bearer, behalf=None):
    return await access.authenticate(bearer=bearer, behalf=behalf, loopback=False)


async def test_a_key_lets_its_service_in_with_its_roles(access):
    new = await access.create_key(ADMIN, name="shop", roles=[Role.VIEWER], days=None)
    ctx = await signed_in(access, new.secret)
    assert (ctx.tenant, ctx.principal.id, ctx.principal.roles) == (ACME, new.key.id, frozenset({Role.VIEWER}))
    assert ctx.readers == {"public"}
    assert ctx.assignment_unit == f"key:{new.key.id}"
    listed = (await access.keys(ADMIN))[0]
    assert listed.last_used_at is not None
    assert new.secret not in repr(listed)


async def test_every_act_on_a_key_leaves_a_line(access):
    new = await access.create_key(ADMIN, name="shop", roles=[], days=1)
    await access.revoke_key(ADMIN, new.key.prefix)
    assert [(e.action, e.subject) for e in access._audit.events] == [
        ("key.create", new.key.id),
        ("key.revoke", new.key.id),
    ]
    assert new.secret not in repr(access._audit.events)


async def test_keys_that_do_not_count_are_told_apart_only_by_their_holder(access):
    new = await access.create_key(ADMIN, name="shop", roles=[], days=None)
    with pytest.raises(Unauthenticated) as unknown:
        await signed_in(access, "il_zzzzzzzz_" + "x" * 43)
    with pytest.raises(Unauthenticated) as wrong:
        await signed_in(access, new.key.prefix + "_" + "x" * 43)
    assert str(unknown.value) == str(wrong.value)
    await access.revoke_key(ADMIN, new.key.id)
    with pytest.raises(Unauthenticated, match="revoked"):
        await signed_in(access, new.secret)
    old = await access._keys.create(ACME, name="old", roles=[], by="t", expires_at=now() - timedelta(seconds=1))
    with pytest.raises(Unauthenticated, match="expired"):
        await signed_in(access, old.secret)


async def test_revoking_is_idempotent_and_keeps_to_its_tenant(access):
    new = await access.create_key(ADMIN, name="shop", roles=[], days=None)
    first = await access.revoke_key(ADMIN, new.key.id)
    assert (await access.revoke_key(ADMIN, new.key.id)).revoked_at == first.revoked_at
    theirs = await access._keys.create(RIVAL, name="x", roles=[], by="t", expires_at=None)
    with pytest.raises(NotFound):
        await access.revoke_key(ADMIN, theirs.key.id)
    with pytest.raises(NotFound):
        await access.revoke_key(ADMIN, "")


@pytest.mark.parametrize(
    ("days", "name"), [(0, "x"), (-1, "x"), (4000, "x"), (float("nan"), "x"), (1, ""), (1, "x" * 129)]
)
async def test_a_key_of_odd_name_or_life_is_refused(access, days, name):
    with pytest.raises(InvalidInput):
        await access.create_key(ADMIN, name=name, roles=[], days=days)


async def test_nobody_gives_a_role_above_their_own(access):
    with pytest.raises(Forbidden):
        await access.create_key(holder(Role.OPERATOR), name="x", roles=[Role.ADMIN], days=None)
    with pytest.raises(Forbidden):
        await access.create_key(holder(Role.VIEWER), name="x", roles=[], days=None)


async def test_a_call_without_key_is_the_owner_only_from_this_machine(access):
    ctx = await access.authenticate(bearer=None, behalf=None, loopback=True)
    assert ctx.principal.has(Role.ADMIN)
    with pytest.raises(Unauthenticated):
        await access.authenticate(bearer=None, behalf=None, loopback=False)


async def test_a_token_names_its_user_groups_and_conversation(access):
    new = await access.create_key(ADMIN, name="shop", roles=[], days=None)
    token = await access.tokens.mint(ACME, user="fay", groups=["finance"], conversation="c1", purpose="support")
    ctx = await signed_in(access, new.secret, token)
    assert ctx.readers == {"public", "user:fay", "group:finance"}
    assert (ctx.conversation, ctx.end_user.purpose, ctx.assignment_unit) == ("c1", "support", "user:fay")
    with pytest.raises(InvalidInput):
        await access.tokens.mint(ACME, user="fay", groups=[], life_s=901)


async def test_a_tenants_secret_is_sealed_and_made_once(access):
    tokens = await asyncio.gather(*[access.tokens.mint(ACME, user=f"u{n}", groups=[]) for n in range(10)])
    for n, token in enumerate(tokens):
        assert (await access.tokens.verify(ACME, token)).user.id == f"u{n}"
    with pytest.raises(Unauthenticated):
        await access.tokens.verify(RIVAL, tokens[0])


def pair(algorithm):
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem_of(private):
    return (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def claims(**changed):
    at = int(now().timestamp())
    return {"sub": "fay", "tenant": "acme", "groups": [], "aud": "interlock", "iat": at, "exp": at + 60, **changed}


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
async def test_a_registered_key_signs_tokens_of_its_own_algorithm(access, algorithm):
    private = pair(algorithm)
    await access.tokens.register(ACME, "idp", algorithm, pem_of(private))
    token = jwt.encode(claims(), private, algorithm=algorithm, headers={"kid": "idp"})
    said = await access.tokens.verify(ACME, token)
    assert (said.user.id, said.issuer_key) == ("fay", "idp")
    stranger = jwt.encode(claims(), pair(algorithm), algorithm=algorithm, headers={"kid": "idp"})
    with pytest.raises(Unauthenticated):
        await access.tokens.verify(ACME, stranger)
    with pytest.raises(Conflict):
        await access.tokens.register(ACME, "idp", algorithm, pem_of(private))
    with pytest.raises(Unauthenticated):  # another tenant knows nothing of it
        await access.tokens.verify(RIVAL, token)


@pytest.mark.parametrize(
    ("algorithm", "pem"),
    [("HS256", "x"), ("none", "x"), ("RS256", "not a key"), ("EdDSA", ""), ("ES256", "-----BEGIN PUBLIC KEY-----")],
)
async def test_a_key_that_is_none_is_not_registered(access, algorithm, pem):
    with pytest.raises(InvalidInput):
        await access.tokens.register(ACME, "k", algorithm, pem)


async def test_a_key_of_another_algorithm_is_not_registered(access):
    with pytest.raises(InvalidInput):
        await access.tokens.register(ACME, "k", "RS256", pem_of(pair("EdDSA")))


@pytest.mark.parametrize("kid", ["", "\0", "x" * 5000, "'; DROP TABLE signing_keys; --", "😀"])
async def test_an_odd_key_id_is_an_unknown_key(access, kid):
    token = jwt.encode(claims(), "x" * 32, algorithm="HS256", headers={"kid": kid})
    with pytest.raises(Unauthenticated):
        await access.tokens.verify(ACME, token)


async def test_an_account_signs_in_and_out(access):
    accounts = access.accounts
    await accounts.create(ACME, "olga", "a long enough word", roles=[Role.OPERATOR], groups=["hr"])
    secret, session = await accounts.sign_in(ACME, "olga", "a long enough word", "10.0.0.1")
    ctx = access.of_session(await accounts.session(secret))
    assert (ctx.tenant, ctx.principal.id, ctx.principal.roles) == (ACME, "account:olga", frozenset({Role.OPERATOR}))
    assert "group:hr" in ctx.readers
    assert session.csrf != secret
    await accounts.sign_out(secret)
    assert await accounts.session(secret) is None
    assert await accounts.session("anything") is None


async def test_a_password_change_ends_every_session(access):
    accounts = access.accounts
    await accounts.create(ACME, "olga", "a long enough word", roles=[])
    sessions = [(await accounts.sign_in(ACME, "olga", "a long enough word", "h"))[0] for _ in range(2)]
    await accounts.set_password(ACME, "olga", "another long word")
    assert [await accounts.session(secret) for secret in sessions] == [None, None]
    with pytest.raises(Unauthenticated):
        await accounts.sign_in(ACME, "olga", "a long enough word", "h")
    assert await accounts.sign_in(ACME, "olga", "another long word", "h")
    with pytest.raises(NotFound):
        await accounts.set_password(ACME, "nobody", "another long word")


async def test_a_wrong_name_and_a_wrong_password_say_the_same(access):
    await access.accounts.create(ACME, "olga", "a long enough word", roles=[])
    with pytest.raises(Unauthenticated) as name:
        await access.accounts.sign_in(ACME, "nobody", "a long enough word", "h")
    with pytest.raises(Unauthenticated) as password:
        await access.accounts.sign_in(ACME, "olga", "wrong", "h")
    with pytest.raises(Unauthenticated) as tenant:
        await access.accounts.sign_in(RIVAL, "olga", "a long enough word", "h")
    assert str(name.value) == str(password.value) == str(tenant.value)


async def test_too_many_wrong_passwords_lock_one_name_from_one_address(access):
    accounts = access.accounts
    await accounts.create(ACME, "olga", "a long enough word", roles=[])
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await accounts.sign_in(ACME, "olga", "wrong", "10.0.0.1")
    with pytest.raises(LimitExceeded) as locked:
        await accounts.sign_in(ACME, "olga", "a long enough word", "10.0.0.1")
    assert locked.value.retry_after_s
    assert await accounts.sign_in(ACME, "olga", "a long enough word", "10.0.0.2")


async def test_people_of_one_office_sign_in_as_often_as_they_like(access):
    await access.accounts.create(ACME, "olga", "a long enough word", roles=[])
    for _ in range(20):  # five names of three tries would be fifteen
        await access.accounts.sign_in(ACME, "olga", "a long enough word", "10.0.0.1")
    for name in ("ann", "ben", "cem", "dee", "eve"):
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                await access.accounts.sign_in(ACME, name, "wrong", "10.0.0.1")
    with pytest.raises(LimitExceeded):
        await access.accounts.sign_in(ACME, "olga", "a long enough word", "10.0.0.1")


async def test_guesses_at_the_same_time_count_too(access):
    await access.accounts.create(ACME, "olga", "a long enough word", roles=[])
    tries = [access.accounts.sign_in(ACME, "olga", "wrong", "10.0.0.1") for _ in range(8)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(r, LimitExceeded) for r in results) == 5


@pytest.mark.parametrize(
    ("name", "password"),
    [("olga", "short"), ("olga", "x" * 1025), ("olga", "my-OLGA-password"), ("", "a long enough word"),
     ("o" * 65, "a long enough word"), ("o lga", "a long enough word"), ("<b>", "a long enough word")],
)  # fmt: skip
async def test_weak_passwords_and_odd_names_are_refused(access, name, password):
    with pytest.raises(InvalidInput):
        await access.accounts.create(ACME, name, password, roles=[])


async def test_a_name_is_given_once_in_a_tenant(access):
    await access.accounts.create(ACME, "olga", "a long enough word", roles=[])
    with pytest.raises(Conflict):
        await access.accounts.create(ACME, "olga", "a long enough word", roles=[])
    await access.accounts.create(RIVAL, "olga", "a long enough word", roles=[])
    assert [a.username for a in await access.accounts.list(ACME)] == ["olga"]


def test_a_sealed_value_opens_only_for_its_purpose_and_key(tmp_path):
    sealer = Sealer(tmp_path / "master.key")
    sealed = sealer.seal("secret", "signing:acme")
    assert sealer.open(sealed, "signing:acme") == "secret"
    assert "secret" not in sealed
    assert sealer.seal("secret", "signing:acme") != sealed
    for other, purpose in ((sealer, "signing:rival"), (Sealer(tmp_path / "other.key"), "signing:acme")):
        with pytest.raises(Misconfigured):
            other.open(sealed, purpose)
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "master.key").write_bytes(b"short")
    with pytest.raises(Misconfigured, match="damaged"):
        sealer.open(sealed, "signing:acme")


async def test_processes_that_start_together_agree_on_one_key(tmp_path):
    def seal(n):
        return Sealer(tmp_path / "master.key").seal(str(n), "p")

    sealed = await asyncio.gather(*[asyncio.to_thread(seal, n) for n in range(16)])
    assert sorted(Sealer(tmp_path / "master.key").open(s, "p") for s in sealed) == sorted(str(n) for n in range(16))
    assert [p.name for p in tmp_path.iterdir()] == ["master.key"]


def test_a_directory_file_names_its_mistake(tmp_path):
    file = tmp_path / "users.yaml"
    file.write_text("users: [{id: ada, groups: [a, b]}, {id: bo}]")
    directory = read_directory(file)
    assert user_of(directory, "ada").groups == {"a", "b"}
    with pytest.raises(NotFound, match="ada, bo"):
        user_of(directory, "nobody")
    for text in (
        "users: {}",
        "users: [{name: x}]",
        "users: [{id: 'a b'}]",
        "people: []",
        "[",
        "",
        "users: [{id: x, role: y}]",
    ):
        file.write_text(text)
        with pytest.raises(InvalidInput) as caught:
            read_directory(file)
        assert caught.value.param == "access.users"
        assert "users.yaml" in caught.value.message
    with pytest.raises(InvalidInput):
        read_directory(tmp_path / "absent.yaml")
