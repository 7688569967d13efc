"""A collection goes over to another embedder in the console: real server, real browser; and the same by REST."""

from __future__ import annotations

import json
import re
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from .conftest import FILES, PASSWORD, Site, Tabs, _environment, _serve, _stop, sign_in

pytestmark = [pytest.mark.timeout(180)]
SECOND = """
from interlock.testing.embedders import HashEmbedder
class Plugin:
    @staticmethod
    def open(models, *, threads):
        return HashEmbedder()
class Other:
    @staticmethod
    def open(models, *, threads):
        return HashEmbedder(name="other", dimensions=32)
"""


@pytest.fixture
def changing(tmp_path) -> Iterator[Site]:
    """A workspace ingested by one embedder, whose settings name another one."""
    root = tmp_path / "workspace"
    for name in ("interlock.yaml", "users.yaml", "knowledge/docs.yaml", "documents/returns.md"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(FILES[name]).lstrip())
    found = Site("", root, _environment(tmp_path))
    entries = tmp_path / "plugins" / "hashed-1.dist-info" / "entry_points.txt"
    entries.write_text("[interlock.embedder]\nhashed = hashed_embedder:Plugin\nother = hashed_embedder:Other\n")
    (tmp_path / "plugins" / "hashed_embedder.py").write_text(SECOND)
    found.run("ingest")
    found.run("accounts", "create", "olga", "--role", "operator", "--password", PASSWORD)
    found.run("accounts", "create", "vera", "--role", "viewer", "--password", PASSWORD)
    settings = root / "interlock.yaml"
    settings.write_text(settings.read_text().replace("embedder: hashed", "embedder: other"))
    process = _serve(found)
    yield found
    _stop(process)


@pytest.mark.browser
def test_an_operator_builds_compares_switches_and_goes_back(chromium: Any, changing: Site) -> None:
    tabs = Tabs(chromium, changing.url)
    page = tabs.open("/sign-in", base=changing.url)
    sign_in(page, "olga")
    page.goto("/documents")
    page.locator("a[href='/collections/docs/embedder']").first.click()
    assert "hash:64" in page.inner_text("main")
    assert "The settings name other:32" in page.inner_text("main")
    page.click("text=Build it beside")
    page.wait_for_selector("text=Let it answer")
    assert "no accepted question" in page.inner_text("main")
    page.click("text=Compare both")
    page.wait_for_selector("text=of the first ten passages are the same")
    changing.run("knowledge", "questions", "add", "docs", str(_questions(changing)))
    page.reload()
    assert "1 accepted question" in page.inner_text("main")
    page.click("text=Compare both")
    page.wait_for_selector("h3:has-text('1 question')")
    assert "recall@10" in page.inner_text("main")
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert "find their own document" in page.inner_text("main").casefold()
    page.click("text=Let it answer")
    assert "and will answer from other:32" in page.inner_text("main")
    page.click("main button.primary")
    page.wait_for_selector("tr:has-text('other:32') >> text=answers")
    assert "compared before the switch" in page.inner_text("main").casefold()
    # The way back is the same step.
    page.click("text=Let it answer")
    page.click("main button.primary")
    page.wait_for_selector("tr:has-text('hash:64') >> text=answers")
    page.click("text=Remove it")
    page.click("main button.stop")
    page.wait_for_selector("text=Build it beside")
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto("/audit")
    said = page.inner_text("main")
    assert "embedder.switch" in said
    assert "embedder.drop" in said
    page.context.close()
    assert tabs.complaints == []


def _questions(site: Site) -> Path:
    questions = site.root / "questions.jsonl"
    questions.write_text('{"id": "q", "query": "how long may hardware come back?", "relevant": ["returns.md"]}\n')
    return questions


def test_steps_are_for_operators_and_are_confirmed(changing: Site) -> None:
    with httpx2.Client(base_url=changing.url) as client:
        away = {"x-forwarded-for": "203.0.113.9"}
        assert client.get("/collections/docs/embedder", headers=away).status_code == 303
        page = client.get("/collections/docs/embedder").text
        token = re.search(r'name="csrf" value="([^"]+)"', page)
        assert token is not None
        given = {"csrf": token.group(1), "step": "switch", "space": "other:32"}
        path = "/collections/docs/embedder"
        assert client.post(path, data={**given, "csrf": "wrong"}).status_code == 403
        assert client.post(path, data={**given, "step": "burn"}).status_code == 400
        # There is nothing to switch to yet.
        assert client.post(path, data=given).status_code == 404
        assert client.get(f"{path}/switch").status_code == 404
        assert client.get(f"{path}/build").status_code == 404


def test_the_same_by_rest(changing: Site) -> None:
    with httpx2.Client(base_url=changing.url) as client:
        path = "/api/v1/collections/docs/embedder"

        def done(step: str, **asked: int) -> dict[str, Any]:
            answer = client.post(f"{path}/{step}", json=asked) if asked else client.post(f"{path}/{step}")
            assert answer.status_code == 202, answer.text
            for _ in range(300):
                job = client.get(f"/api/v1/jobs/{answer.json()['job']}").json()
                if job["state"] not in {"queued", "running"}:
                    assert job["state"] == "succeeded", job
                    break
                time.sleep(0.05)
            return client.get(path).json()

        first = client.get(path).json()
        assert first["answers"]["space"] == "hash:64"
        assert first["configured"] == {"space": "other:32", "error": "", "answers": False}
        assert client.post(f"{path}/switch").status_code == 404
        for step, field in (("compare", "questions"), ("compare", "titles"), ("switch", "to"), ("build", "force")):
            answer = client.post(f"{path}/{step}", json={field: "x"})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
        assert done("build")["beside"]["complete"]
        found = done("compare")["beside"]["comparison"]
        assert found["titles"] > 0
        assert set(found["overlap@10"]) == {"hybrid", "dense"}
        assert (found["questions"], found["figures"]) == (0, {})
        changing.run("knowledge", "questions", "add", "docs", str(_questions(changing)))
        labelled = done("compare")["beside"]["comparison"]
        assert (labelled["questions"], labelled["titles"]) == (1, found["titles"])
        assert labelled["figures"]["recall@10"] == {"answers": 1.0, "beside": 1.0, "gain": 0.0, "interval": [0.0, 0.0]}
        assert done("compare", titles=1)["beside"]["comparison"]["titles"] == 1
        assert done("switch")["answers"]["space"] == "other:32"
        told = client.post("/api/v1/collections/docs/explain", json={"query": "hardware"}).json()
        assert told["space"] == "other:32"
        assert done("drop")["beside"] is None
        assert client.get("/api/v1/collections/none/embedder").status_code == 404
        assert client.post(f"{path}/build").json()["error"]["code"] == "nothing_to_build"


def test_the_command_line_tells_and_fails_in_words_and_codes(changing: Site) -> None:
    told = json.loads(changing.run("knowledge", "embedder", "status", "--json"))
    assert [one["answers"]["space"] for one in told] == ["hash:64"]
    assert "lacks" not in changing.run("knowledge", "embedder", "status")
    built = json.loads(changing.run("knowledge", "embedder", "build", "docs", "--json"))
    assert (built["complete"], built["space"]) == (True, "other:32")
    questions = _questions(changing)
    found = json.loads(
        changing.run("knowledge", "embedder", "compare", "docs", "--set", str(questions), "--titles", "5", "--json")
    )
    assert (found["questions"], found["figures"]["recall@10"]["beside"]) == (1, 1.0)
    unlabelled = changing.run("knowledge", "embedder", "compare", "docs")
    assert "overlap@10" in unlabelled
    assert "knowledge questions" in unlabelled
    changing.run("knowledge", "questions", "add", "docs", str(questions))
    stored = json.loads(changing.run("knowledge", "embedder", "compare", "docs", "--titles", "5", "--json"))
    assert (stored["questions"], stored["figures"]) == (1, found["figures"])
    assert "answers from other:32" in changing.run("knowledge", "embedder", "switch", "docs", "--yes")
    assert "hash:64 is gone" in changing.run("knowledge", "embedder", "drop", "docs", "--yes")
