"""Keys by reference, against servers that answer like the stores do; no value shows up where it must not."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from interlock.config import load_settings
from interlock.core.errors import Misconfigured, ProviderError, Unavailable
from interlock.core.ids import TenantId
from interlock.core.messages import ChatRequest, text_message
from interlock.gateway import secrets as room
from interlock.gateway.secrets import Keys, SecretReader
from interlock.gateway.service import PROVIDERS
from interlock.gateway.settings import GatewaySettings, ProviderSettings
from interlock.testing.providers import caller, deps, events_of
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.wires import OpenAIWire

SECRET = "hush-Ottoline-0123456789"


def reply(body, status=200):
    return Reply([json.dumps(body).encode()], status)


@pytest.fixture
async def store():
    async with fake_upstream() as upstream:
        upstream.base = upstream.url.removesuffix("/v1")
        yield upstream


def vault_answer(value=SECRET):
    return reply({"data": {"data": {"key": value}, "metadata": {"version": 3}}})


async def test_vault_by_token(store):
    store.will(vault_answer())
    reader = SecretReader({"VAULT_ADDR": store.base, "VAULT_TOKEN": "root", "VAULT_NAMESPACE": "team"})
    assert await reader.read("vault:secret/llm/openai#key", param="p") == SECRET
    (request,) = store.requests
    assert request.path == "/v1/secret/data/llm/openai"
    assert (request.headers["x-vault-token"], request.headers["x-vault-namespace"]) == ("root", "team")


async def test_vault_by_approle(store):
    store.will(reply({"auth": {"client_token": "s.1"}}), vault_answer())
    reader = SecretReader({"VAULT_ADDR": store.base, "VAULT_ROLE_ID": "r", "VAULT_SECRET_ID": "s"})
    assert await reader.read("vault:secret/x#key", param="p") == SECRET
    assert store.requests[0].path == "/v1/auth/approle/login"
    assert store.requests[0].body == {"role_id": "r", "secret_id": "s"}
    assert store.requests[1].headers["x-vault-token"] == "s.1"


async def test_aws_secrets_manager_is_asked_with_a_signature(store):
    store.will(reply({"SecretString": json.dumps({"key": SECRET})}))
    env = {
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": store.base,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    reader = SecretReader(env)
    assert await reader.read("aws-sm:prod/llm#key", param="p") == SECRET
    (request,) = store.requests
    assert request.headers["x-amz-target"] == "secretsmanager.GetSecretValue"
    assert request.body == {"SecretId": "prod/llm"}
    assert "/eu-west-1/secretsmanager/aws4_request" in request.headers["authorization"]
    store.will(reply({"SecretString": SECRET}))
    assert await reader.read("aws-sm:prod/plain", param="p") == SECRET
    with pytest.raises(Misconfigured) as caught:
        await reader.read("aws-sm:prod/plain2#key", param="p")
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_azure_key_vault_is_asked_with_a_token(store):
    store.will(reply({"access_token": "tok", "expires_in": 3600}), reply({"value": SECRET}))
    env = {
        "AZURE_AUTHORITY_HOST": store.base,
        "INTERLOCK_AZURE_VAULT_URL": store.base,
        "AZURE_TENANT_ID": "t",
        "AZURE_CLIENT_ID": "c",
        "AZURE_CLIENT_SECRET": "s",
    }
    assert await SecretReader(env).read("azure-kv:myvault/openai", param="p") == SECRET
    assert store.requests[1].path == "/secrets/openai?api-version=7.4"
    assert store.requests[1].headers["authorization"] == "Bearer tok"


async def test_google_secret_manager_is_asked_with_a_token(store, tmp_path):
    store.will(
        reply({"access_token": "tok", "expires_in": 3600}),
        reply({"payload": {"data": base64.b64encode(SECRET.encode()).decode()}}),
    )
    env = {
        "GCE_METADATA_HOST": store.base.removeprefix("http://"),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER": store.base,
        "HOME": str(tmp_path),
    }
    assert await SecretReader(env).read("gcp-sm:projects/p/secrets/s", param="p") == SECRET
    assert store.requests[1].path == "/v1/projects/p/secrets/s/versions/latest:access"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply({"errors": ["no"]}, 403), Unavailable),
        (reply({"errors": []}, 404), Misconfigured),
        (reply({}, 503), Unavailable),
        (reply({}, 429), Unavailable),
        (reply([]), Unavailable),
        (reply({"data": None}), Misconfigured),
        (reply({"data": {"data": {"key": 7}}}), Misconfigured),
        (reply({"data": {"data": {"other": SECRET}}}), Misconfigured),
        (Reply([f"<{SECRET}>".encode()]), Unavailable),
        (Reply([b"x" * 600_000, b"x" * 600_000]), Unavailable),
    ],
)
async def test_whatever_a_store_answers_is_told_without_a_secret(store, answer, kind):
    store.will(answer)
    keys = Keys(
        "mine",
        ProviderSettings(kind="openai", key="vault:secret/x#key"),
        {"VAULT_ADDR": store.base, "VAULT_TOKEN": "root-token"},
    )
    with pytest.raises(kind) as caught:
        await keys.key(None)
    said = f"{caught.value} {caught.value.hint} {caught.value!r} {keys!r}"
    assert SECRET not in said
    assert "root-token" not in said
    assert "mine" in str(caught.value)


async def test_a_store_that_is_not_there_is_told():
    reader = SecretReader({"VAULT_ADDR": "http://127.0.0.1:9", "VAULT_TOKEN": "t"})
    with pytest.raises(Unavailable):
        await reader.read("vault:secret/x#key", param="p")


async def test_a_value_is_kept_for_its_time_and_through_an_outage(store):
    env = {"VAULT_ADDR": store.base, "VAULT_TOKEN": "t"}
    store.will(vault_answer("one"), vault_answer("two"), reply({}, 503))
    reader = SecretReader(env, ttl_s=0.05)
    assert [await reader.read("vault:secret/x#key", param="p") for _ in range(3)] == ["one"] * 3
    await asyncio.sleep(0.06)
    assert await reader.read("vault:secret/x#key", param="p") == "two"
    await asyncio.sleep(0.06)
    assert await reader.read("vault:secret/x#key", param="p") == "two"
    assert len(store.requests) == 3


@pytest.mark.parametrize("status", [401, 403, 503])
async def test_a_held_key_is_used_on_while_the_store_refuses_and_the_log_says_so(store, caplog, status):
    env = {"VAULT_ADDR": store.base, "VAULT_TOKEN": "root-token"}
    store.will(vault_answer(), reply({"errors": ["permission denied"]}, status))
    keys = Keys("mine", ProviderSettings(kind="openai", key="vault:secret/x#key", key_ttl_s=0.05), env)
    assert await keys.key(None) == SECRET
    await asyncio.sleep(0.06)
    assert await keys.key(None) == SECRET
    (line,) = [record.getMessage() for record in caplog.records if record.name == "interlock.gateway"]
    assert "gateway.providers.mine.key" in line
    assert str(status) in line
    assert SECRET not in line
    assert "root-token" not in line


async def test_a_refused_key_is_read_anew_and_another_tenants_is_used_on_while_the_store_is_away(store, monkeypatch):
    monkeypatch.setattr("interlock.gateway.secrets._LEAST_AGE_S", 0.0)
    env = {"VAULT_ADDR": store.base, "VAULT_TOKEN": "t"}
    store.will(vault_answer("one"), vault_answer("two"), reply({}, 503))
    reader = SecretReader(env)
    assert await reader.read("vault:secret/x#key", param="p") == "one"
    assert reader.forget()
    assert await reader.read("vault:secret/x#key", param="p") == "two"
    assert reader.forget()
    assert await reader.read("vault:secret/x#key", param="p") == "two"
    assert len(store.requests) == 3


async def test_a_store_that_hangs_holds_up_one_try_and_not_every_one(store, monkeypatch):
    monkeypatch.setattr("interlock.gateway.secrets._SLOW_S", -1.0)
    store.will(reply({}, 503), vault_answer("one"))
    reader = SecretReader({"VAULT_ADDR": store.base, "VAULT_TOKEN": "t"})
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await reader.read("vault:secret/x#key", param="p")
        assert caught.value.code == "secret_store_unavailable"
    assert len(store.requests) == 1
    monkeypatch.setattr(reader, "_away", {})
    assert await reader.read("vault:secret/x#key", param="p") == "one"


async def test_a_login_that_is_refused_is_told_when_no_key_was_ever_read(store):
    store.will(reply({"errors": ["permission denied"]}, 403), reply({"errors": ["invalid secret id"]}, 400))
    for env in ({"VAULT_TOKEN": "t"}, {"VAULT_ROLE_ID": "r", "VAULT_SECRET_ID": "s"}):
        keys = Keys(
            "mine", ProviderSettings(kind="openai", key="vault:secret/x#key"), {"VAULT_ADDR": store.base, **env}
        )
        with pytest.raises(Unavailable) as caught:
            await keys.key(None)
        assert (caught.value.status, caught.value.code) == (503, "secret_store_refused")
        assert "VAULT_TOKEN" in (caught.value.hint or "")


async def test_many_calls_at_once_ask_the_store_once(store):
    store.will(vault_answer())
    reader = SecretReader({"VAULT_ADDR": store.base, "VAULT_TOKEN": "t"})
    found = await asyncio.gather(*(reader.read("vault:secret/x#key", param="p") for _ in range(20)))
    assert set(found) == {SECRET}
    assert len(store.requests) == 1


@pytest.mark.parametrize("field", ["key", "credentials", "entra_secret"])
def test_a_key_instead_of_a_reference_is_refused_and_not_repeated(field):
    with pytest.raises(ValidationError) as caught:
        ProviderSettings.model_validate({"kind": "openai", field: SECRET})
    assert SECRET not in str(caught.value)
    with pytest.raises(ValidationError) as caught:
        ProviderSettings.model_validate({"kind": "openai", "tenant_keys": {"acme": SECRET}})
    assert SECRET not in str(caught.value)
    with pytest.raises(ValidationError) as caught:
        GatewaySettings.model_validate({"providers": {"x": {"kind": "openai", field: SECRET, "api_key": SECRET}}})
    assert SECRET not in str(caught.value)


def test_a_key_in_the_workspace_file_is_in_no_error(tmp_path):
    (tmp_path / "interlock.yaml").write_text(f"gateway: {{providers: {{x: {{kind: openai, key: {SECRET}}}}}}}")
    with pytest.raises(Misconfigured) as caught:
        load_settings(tmp_path)
    assert caught.value.param == "gateway.providers.x.key"
    assert SECRET not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


async def test_a_refused_key_is_read_anew_once(store, monkeypatch):
    monkeypatch.setattr(room, "_LEAST_AGE_S", 0.0)
    wire = OpenAIWire()
    async with fake_upstream() as upstream:
        settings = ProviderSettings(kind="openai", base_url=upstream.url, key="vault:secret/x#key")
        provider = PROVIDERS.get("openai")(
            "mine", settings, deps(environ={"VAULT_ADDR": store.base, "VAULT_TOKEN": "t"})
        )
        store.will(vault_answer("old"), vault_answer("new"))
        upstream.will(wire.error(401, "invalid_api_key", "no"), Reply(wire.answer(["hi"])))
        request = ChatRequest("x", (text_message("user", "hi"),))
        await events_of(provider.stream(caller(), request, "m"))
        assert [r.headers["authorization"] for r in upstream.requests] == ["Bearer old", "Bearer new"]
        upstream.will(wire.error(401, "invalid_api_key", "no"))
        with pytest.raises(ProviderError):
            await events_of(provider.stream(caller(), request, "m"))
        assert len(upstream.requests) == 4
        await provider.close()


async def test_a_tenant_calls_with_its_own_key():
    env = {"OURS": "ours", "THEIRS": "theirs"}
    settings = ProviderSettings(
        kind="openai", key="env:OURS", tenant_keys={"acme": "env:THEIRS", "gone": "env:NOWHERE"}
    )
    keys = Keys("mine", settings, env)
    assert await keys.key(caller()) == "theirs"
    assert await keys.key(replace(caller(), tenant=TenantId("other"))) == "ours"
    assert await keys.key(None) == "ours"
    with pytest.raises(Misconfigured) as caught:
        await keys.key(replace(caller(), tenant=TenantId("gone")))
    assert caught.value.param == "gateway.providers.mine.tenant_keys.gone"
