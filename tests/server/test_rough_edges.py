"""Small things that surprised people: each once, through the door."""

from __future__ import annotations

import json

import httpx2
import pytest
import yaml

from interlock.app import open_app
from interlock.cli.session import table
from interlock.config import Settings, load_settings
from interlock.console.pages import build_routes
from interlock.core.errors import Misconfigured, Unavailable
from interlock.examination import examine
from interlock.gateway.imports.litellm import convert
from interlock.server.asgi import build_asgi
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.workspaces import write_workspace


def test_a_table_lets_no_escape_sequence_through(capsys):
    table(["model"], [["up/\x1b[31mRED\x1b]0;pwned\x07\u202e"]])
    shown = capsys.readouterr().out
    assert "RED" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_an_imported_address_loses_its_password_and_half_a_price_is_not_written():
    text = """
model_list:
  - model_name: a
    litellm_params:
      {model: openai/m, api_base: "https://user:PLAINPW@host/v1?key=LEAK", input_cost_per_token: 1.0e-06}
"""
    found = convert(yaml.safe_load(text))
    assert "PLAINPW" not in str(found)
    assert "LEAK" not in str(found)
    settings = Settings(**found.settings)
    (provider,) = [p for p in settings.gateway.providers.values() if p.base_url]
    assert provider.base_url == "https://host/v1"
    assert not settings.cost.prices


def test_a_wrong_setting_is_told_in_our_words(tmp_path):
    workspace = write_workspace(tmp_path / "w")
    for text, said in (
        ("server: {prot: 1}", "there is no such field; did you mean 'port'?"),
        ("gateway: {routes: {r: {targets: [a/b], retrys: 1}}}", "there is no such field; did you mean 'retries'?"),
        ("gateway: {routes: {r: {targets: [a/b], cache: {ttl: 1}}}}", "did you mean 'ttl_s'?"),
        ("cost: {limits: [{name: a, windw: 1h}]}", "did you mean 'window'?"),
        ("gateway: {providers: {a: {kind: openai, key: sk-1}}}", "is wrong: a secret is named by reference"),
    ):
        with pytest.raises(Misconfigured) as caught:
            load_settings(workspace, text=text)
        assert said in caught.value.message


async def test_an_overloaded_provider_is_overloaded_to_anthropic_s_clients(tmp_path):
    async with fake_upstream() as upstream:
        provider = {"kind": "anthropic", "base_url": upstream.url, "key": f"file:{tmp_path / 'key'}"}
        (tmp_path / "key").write_text("k")
        route = {"targets": ["up/claude-haiku-4-5"], "retries": 0}
        settings = {"gateway": {"providers": {"up": provider}, "routes": {"r": route}}}
        async with open_app(write_workspace(tmp_path / "w", settings=settings)) as app:
            transport = httpx2.ASGITransport(app=build_asgi(app), client=("127.0.0.1", 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
                for _ in range(4):
                    upstream.will(Reply([json.dumps(body).encode()], 529, {"content-type": "application/json"}))
                ask = {"model": "route/r", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
                answer = await http.post("/v1/messages", json=ask)
                assert answer.status_code == 529
                assert answer.json()["error"]["type"] == "overloaded_error"


async def test_the_console_s_name_leads_to_it(tmp_path):
    async with open_app(write_workspace(tmp_path / "w")) as app:
        transport = httpx2.ASGITransport(app=build_asgi(app, build_routes(app)), client=("127.0.0.1", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            for path in ("/console", "/console/"):
                answer = await http.get(path)
                assert (answer.status_code, answer.headers["location"]) == (307, "/")


@pytest.mark.parametrize("document", ["{}", '{"type": "service_account", "client_email": "a@b"}', "[]", "half"])
async def test_doctor_says_that_a_cloud_s_credentials_are_of_no_use(tmp_path, document):
    (tmp_path / "key.json").write_text(document)
    provider = {"kind": "vertex", "project": "p", "credentials": f"file:{tmp_path / 'key.json'}", "models": ["gemini"]}
    settings = {"gateway": {"providers": {"vx": provider}}}
    async with open_app(write_workspace(tmp_path / "w", settings=settings)) as app:
        found = {finding.what: finding async for finding in examine(app)}
        assert found["provider vx"].state == "warn"
        assert "Google credentials" in found["provider vx"].cause
        assert "vx/gemini" not in await app.parts.gateway.models()


async def test_a_secret_that_must_stand_in_the_settings_is_shown_nowhere(tmp_path):
    provider = {
        "kind": "openai",
        "base_url": "http://user:PLAINPW@127.0.0.1:9/v1?api_key=QUERYLEAK",
        "headers": {"X-Key": "HEADERLEAK"},
        "models": ["m"],
    }
    settings = {"gateway": {"providers": {"up": provider}, "routes": {"r": {"targets": ["up/m"], "retries": 0}}}}
    workspace = write_workspace(tmp_path / "w", settings=settings)
    async with open_app(workspace) as app:
        app.configuration.accept("test")
        transport = httpx2.ASGITransport(app=build_asgi(app, build_routes(app)), client=("127.0.0.1", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            body = {"model": "up/m", "messages": [{"role": "user", "content": "hi"}]}
            shown = [(await http.post("/v1/chat/completions", json=body)).text]
            shown.append((await http.post("/api/v1/providers/up/test", json={})).text)
            for path in ("providers", "routes", "config/history", "provider-register", "audit", "traces"):
                answer = await http.get(f"/api/v1/{path}")
                assert answer.status_code == 200, path
                shown.append(answer.text)
            for path in ("/gateway", "/settings", "/doctor", "/metrics"):
                answer = await http.get(path)
                assert answer.status_code == 200, path
                shown.append(answer.text)
        shown += [str(finding) async for finding in examine(app)]
    for leak in ("PLAINPW", "QUERYLEAK", "HEADERLEAK"):
        assert not [text for text in shown if leak in text]
    # The copy that a rollback needs is its owner's alone.
    (copy,) = (workspace / ".interlock" / "config").glob("*.json")
    assert copy.stat().st_mode & 0o777 == 0o600


async def test_doctor_goes_on_after_a_check_that_breaks_off(tmp_path, monkeypatch):
    async with open_app(write_workspace(tmp_path / "w")) as app:

        async def away():
            raise Unavailable("the store is away")

        # A store that fails half way through an examination: the ping is the first thing the next check needs.
        monkeypatch.setattr(app.sql, "revision", away)
        found = [finding async for finding in examine(app)]
    assert ("fail", "database", "the store is away") in [(f.state, f.what, f.cause) for f in found]
    assert [f for f in found if f.what.startswith("disk")]


async def test_the_configuration_of_the_start_is_the_one_that_was_read_then(tmp_path):
    settings = {"gateway": {"providers": {"up": {"kind": "scripted", "models": ["m"]}}}}
    workspace = write_workspace(tmp_path / "w", settings=settings)
    file = workspace / "interlock.yaml"
    began_with = file.read_text()
    async with open_app(workspace) as app:
        file.write_text(began_with + "# edited before the server listened\n")
        app.configuration.accept("start")
        [accepted] = app.configuration.history(app.owner())
        assert accepted.text == began_with
