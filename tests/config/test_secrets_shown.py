"""What is secret in a workspace's settings is shown nowhere, and a header may name where its secret is."""

from __future__ import annotations

import json

import httpx2
import pytest
from click.testing import CliRunner

from interlock.app import open_app
from interlock.cli.root import cli
from interlock.config import load_settings
from interlock.console.settings import shown_settings
from interlock.server.asgi import build_asgi
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.wires import OpenAIWire
from interlock.testing.workspaces import write_workspace

SECRETS = ("PLAINPW", "QUERYLEAK", "HEADERLEAK", "USERTOKEN")


def workspace(path):
    providers = {
        "one": {"kind": "openai", "base_url": "http://user:PLAINPW@host/v1?api_key=QUERYLEAK"},
        "two": {
            "kind": "openai",
            "base_url": "http://USERTOKEN@host/v1",
            "headers": {"Authorization": "Bearer sk-HEADERLEAK", "X-Api-Key": "env:SOME_KEY"},
        },
    }
    return write_workspace(path, settings={"gateway": {"providers": providers}})


@pytest.mark.parametrize("as_json", [False, True])
def test_config_show_covers_secrets_and_keeps_references(tmp_path, as_json):
    workspace(tmp_path / "w")
    arguments = ["-w", str(tmp_path / "w"), "config", "show", "gateway.providers", *(["--json"] if as_json else [])]
    shown = CliRunner().invoke(cli, arguments, env={"COLUMNS": "400"})
    assert shown.exit_code == 0, shown.output
    assert not [secret for secret in SECRETS if secret in shown.output]
    assert "env:SOME_KEY" in shown.output
    if as_json:
        values = {row["name"]: row["value"] for row in json.loads(shown.output)}
        assert values["gateway.providers.one.base_url"] == "http://user:•••@host/v1?api_key=•••"
        assert values["gateway.providers.two.base_url"] == "http://•••@host/v1"


def test_the_console_covers_them_as_well(tmp_path):
    workspace(tmp_path / "w")
    shown = str(list(shown_settings(load_settings(tmp_path / "w").origins())))
    assert not [secret for secret in SECRETS if secret in shown]


async def test_a_header_is_read_from_where_its_reference_says(tmp_path):
    (tmp_path / "key").write_text("from-the-file")
    async with fake_upstream() as upstream:
        headers = {"X-Api-Key": f"file:{tmp_path / 'key'}", "X-Plain": "as:it-is"}
        provider = {"kind": "openai", "base_url": upstream.url, "headers": headers}
        settings = {"gateway": {"providers": {"up": provider}}}
        async with open_app(write_workspace(tmp_path / "w", settings=settings)) as app:
            transport = httpx2.ASGITransport(app=build_asgi(app), client=("127.0.0.1", 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                upstream.will(Reply(OpenAIWire().answer(["hi"])))
                body = {"model": "up/m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
                answer = await http.post("/v1/chat/completions", json=body)
                assert answer.status_code == 200
        sent = upstream.requests[-1].headers
        assert (sent["x-api-key"], sent["x-plain"]) == ("from-the-file", "as:it-is")
