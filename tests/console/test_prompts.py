"""Prompts in the console: read, drafted beside their preview, taken away as a patch."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest

from .conftest import PROMPT, Site

FILE = "apps/down/prompt.md"


@pytest.fixture
def client(site: Site) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=site.url) as found:
        yield found


def field(page: str, name: str) -> str:
    match = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert match is not None, name
    return match.group(1)


def opened(client: httpx2.Client, prompt: str) -> dict[str, str]:
    page = client.get(f"/prompts/{prompt}/edit").text
    form = page[page.index('<form method="post" action="/prompts/') :]
    return {name: field(form, name) for name in ("csrf", "base", "path")}


def test_a_draft_is_previewed_saved_and_taken_away_as_a_patch(client: httpx2.Client) -> None:
    assert 'href="/prompts/down"' in client.get("/prompts").text
    assert "What the files say now" in client.get("/prompts/down").text
    at = "/prompts/down/edit"
    known = opened(client, "down")
    assert known["path"] == FILE
    text = PROMPT.replace("title", "variables: {plan: {}}\r\ntitle") + "\r\nFor <b>{{ plan }}</b>."
    assert "&#39;plan&#39; is missing" in client.post(at, data={**known, "text": text}).text
    shown = client.post(at, data={**known, "text": text, "variables": '{"plan": "<i>"}'}).text
    assert "For &lt;b&gt;&amp;lt;i&amp;gt;&lt;/b&gt;." in shown, "escaped for the model, and for the page"
    assert client.post(at, data={**known, "csrf": "x", "text": text, "save": "1"}).status_code == 403
    assert client.post(at, data={**known, "text": text, "save": "1"}).status_code == 400, "it has no reason"
    saved = client.post(at, data={**known, "text": text, "save": "1", "why": "for each plan"})
    assert saved.status_code == 303
    assert "Nobody is served this draft" in client.get(saved.headers["location"]).text
    patch = client.get(saved.headers["location"] + "/patch")
    assert patch.headers["content-disposition"].startswith("attachment")
    assert f"--- a/{FILE}\n+++ b/{FILE}\n" in patch.text
    assert "\r" not in patch.text


def test_what_was_written_over_an_older_file_stays_in_the_editor(client: httpx2.Client) -> None:
    known = opened(client, "slow")
    data = {**known, "base": "sha256:0", "text": "Mine.", "why": "w", "save": "1"}
    late = client.post("/prompts/slow/edit", data=data)
    assert late.status_code == 409
    assert "Mine." in late.text
    assert "was changed since the draft was begun" in late.text
    assert known["base"] in late.text, "saved again, it goes over the file as it is now"
