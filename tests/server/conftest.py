"""One real server for all tests of a module: documents, two apps, callers of every kind, two tenants."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from interlock.access.keys import Keys
from interlock.app import open_app
from interlock.core.clock import now
from interlock.core.context import Role
from interlock.core.ids import TenantId
from interlock.testing.servers import Server, run_server
from interlock.testing.workspaces import write_workspace

DOCUMENTS = {
    "returns.md": "# Returns\n\nCustomers may return hardware within 30 days of delivery. "
    "The restocking fee is 10 percent of the price.\n",
    "pay/bands.md": "# Salary bands\n\nThe salary band of a senior engineer in Leeds is 61,000 to 78,000 pounds.\n",
}
SCRIPT = [
    {"match": "UPSTREAM (DOWN|BROKEN)", "fail_status": 503, "reply": "x"},
    {"match": "UPSTREAM LIMIT", "fail_status": 429, "retry_after_s": 7, "reply": "x"},
    {"match": "UPSTREAM DIES", "fail_status": 503, "reply": "one two three four", "fail_after_chunks": 1},
    {"match": "SLOW START", "first_delay_s": 30, "reply": "late"},
    {"match": "A MOMENT", "reply": "A word. " * 40, "chunk_chars": 8, "chunk_delay_s": 0.02},
    {"match": "LONG", "reply": "A word. " * 500, "chunk_chars": 8, "chunk_delay_s": 0.02},
    {"match": "hardware", "reply": "Customers may return hardware within 30 days of delivery [1]. "},
    {"reply": "You said: {question}"},
]


@dataclass
class Site:
    """The server, and what callers of it hold."""

    server: Server
    workspace: Path
    keys: dict
    """admin, plain, expired, revoked, and `rival` of another tenant."""
    private: dict
    """Private signing keys by kid."""
    public_pem: str
    secret: str
    """The tenant's own HMAC secret."""

    @property
    def url(self):
        return self.server.url

    def client(self, key=None, token=None, **headers):
        if key is not None:
            headers["authorization"] = f"Bearer {self.keys.get(key, key)}"
        if token is not None:
            headers["x-interlock-on-behalf-of"] = token
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def claims(self, **changed):
        at = int(time.time())
        claims = {"sub": "fay", "tenant": "acme", "groups": ["finance"], "aud": "interlock", "iat": at, "exp": at + 300}
        return {name: value for name, value in {**claims, **changed}.items() if value is not None}

    def token(self, *, key=None, algorithm="HS256", kid="default", **changed):
        import jwt

        return jwt.encode(self.claims(**changed), key or self.secret, algorithm=algorithm, headers={"kid": kid})


def workspace_of(folder, models_dir, **settings):
    route = {"targets": ["scripted"], "retries": 0}
    rules = [
        {"id": "no-secrets", "detector": "secrets", "at": ["input"], "action": "block", "message": "No credentials."}
    ]
    return write_workspace(
        folder,
        settings={
            "models_dir": str(models_dir),
            "gateway": {
                "breaker": {"failures": 1000},
                "providers": {
                    "scripted": {"kind": "scripted", "script": SCRIPT},
                    "local": {"kind": "local"},
                    "keyless": {"kind": "openai", "api_key_env": "NO_SUCH_KEY_ANYWHERE", "models": ["gpt"]},
                },
                "routes": {"answers": {"targets": ["scripted"], "retries": 0}},
            },
            "cost": {"prices": {"scripted/*": {"input_per_million": "1", "output_per_million": "2"}}},
            **settings,
        },
        apps={
            "helper": {"route": route, "knowledge": {"collection": "docs"}, "guardrails": {"rules": rules}},
            "talker": {"route": route, "guardrails": {"rules": rules}},
        },
        documents=DOCUMENTS,
        permissions=[
            {"match": "pay/**", "readers": ["group:finance"]},
            {"match": "**", "readers": ["public"]},
        ],
        users={"ada": [], "fay": ["finance"]},
    )


async def _prepare(workspace):
    """Keys of every kind, made before the server starts, as an operator would on the command line."""
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    private = {
        "ed": ed25519.Ed25519PrivateKey.generate(),
        "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    }
    async with open_app(workspace) as app:
        access, owner = app.parts.access, app.owner()
        keys = {
            "admin": (await access.create_key(owner, name="admin", roles=[Role.ADMIN], days=None)).secret,
            "plain": (await access.create_key(owner, name="plain", roles=[], days=1)).secret,
        }
        revoked = await access.create_key(owner, name="revoked", roles=[Role.ADMIN], days=None)
        await access.revoke_key(owner, revoked.key.id)
        keys["revoked"] = revoked.secret
        store = Keys(app.sql)
        past = now() - timedelta(seconds=1)
        expired = await store.create(TenantId("acme"), name="old", roles=[], by="test", expires_at=past)
        rival = await store.create(TenantId("rival"), name="rival", roles=[Role.ADMIN], by="test", expires_at=None)
        keys |= {"expired": expired.secret, "rival": rival.secret}
        pems = {kid: key.public_key().public_bytes(*pem).decode() for kid, key in private.items()}
        await access.tokens.register(TenantId("acme"), "ed", "EdDSA", pems["ed"])
        await access.tokens.register(TenantId("acme"), "rsa", "RS256", pems["rsa"])
        await access.tokens.mint(TenantId("acme"), user="x", groups=[])
        secret = (await access.tokens._find(TenantId("acme"), "default")).material
    return keys, private, pems["rsa"], secret


@contextmanager
def open_site(folder, models_dir):
    """A site of its own, with its documents ingested."""
    workspace = workspace_of(folder, models_dir)
    keys, private, public_pem, secret = asyncio.run(_prepare(workspace))
    with run_server(workspace) as server:
        site = Site(server, workspace, keys, private, public_pem, secret)
        with site.client("admin") as client:
            job = client.post("/api/v1/collections/docs/ingest").raise_for_status().json()
            while job["state"] in {"queued", "running"}:
                time.sleep(0.05)
                job = client.get(f"/api/v1/jobs/{job['id']}").json()
            assert job["state"] == "succeeded", job
        yield site


@pytest.fixture(scope="session")
def site(tmp_path_factory, models_dir):
    with open_site(tmp_path_factory.mktemp("site") / "workspace", models_dir) as site:
        yield site


@pytest.fixture
def http(site):
    """A caller with the admin key."""
    with site.client("admin") as client:
        yield client
