"""Labelled questions are decided on in a real browser, each test on a workspace of its own: what one decides stays."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import FILES, Site, Tabs, _environment, _serve, _stop, watched_tabs

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def asked(tmp_path) -> Iterator[Site]:
    """A served workspace with one document."""
    root = tmp_path / "workspace"
    for name in ("interlock.yaml", "users.yaml", "knowledge/docs.yaml", "documents/returns.md"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(FILES[name]).lstrip())
    found = Site("", root, _environment(tmp_path))
    found.run("ingest")
    process = _serve(found)
    yield found
    _stop(process)


@pytest.fixture
def asked_tabs(chromium: Any, asked: Site) -> Iterator[Tabs]:
    yield from watched_tabs(chromium, asked)


def test_questions_are_decided_on_with_the_keyboard_alone(asked_tabs: Tabs, asked: Site) -> None:
    rows = [{"id": f"q{n}", "query": f"what about case {n} of a return?"} for n in range(3)]
    written = [{**row, "relevant": ["returns.md"], "quotes": {"returns.md": "Parts ordered"}} for row in rows]
    file = asked.root / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in written))
    asked.run("knowledge", "questions", "add", "docs", str(file))
    page = asked_tabs.open("/collections/docs/questions?state=accepted")
    assert page.locator("[data-question]").count() == 3
    page.keyboard.press("j")
    first, second, third = (card.get_attribute("data-question") for card in page.locator("[data-question]").all())
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.dataset.question") == second
    page.keyboard.press("r")
    page.wait_for_selector(f'[data-question="{second}"]', state="detached")
    assert "2 accepted · 1 rejected" in page.inner_text(".lede")
    # The next one has the focus, and its words are changed and saved without leaving the keys.
    assert page.evaluate("document.activeElement.dataset.question") == third
    page.keyboard.press("e")
    page.keyboard.press("Control+A")
    page.keyboard.type("what of parts made to measure?")
    page.keyboard.press("Enter")
    page.wait_for_selector(f'[data-question="{third}"]', state="detached")
    assert page.evaluate("document.activeElement.dataset.question") == first
    page.goto("/collections/docs/questions?state=rejected")
    assert page.locator("[data-question]").count() == 1
    page.keyboard.press("j")
    page.keyboard.press("a")
    page.wait_for_selector("text=Nothing is rejected.")
    told = json.loads(asked.run("knowledge", "questions", "list", "docs", "--state", "accepted", "--json"))
    assert {one["text"] for one in told} >= {"what of parts made to measure?", rows[1]["query"]}
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto("/collections/docs/questions?state=accepted")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_question_is_decided_on_without_a_script(asked_tabs: Tabs, asked: Site) -> None:
    file = asked.root / "plain.jsonl"
    file.write_text(json.dumps({"id": "p", "query": "which words stay plain?", "relevant": ["returns.md"]}) + "\n")
    asked.run("knowledge", "questions", "add", "docs", str(file))
    page = asked_tabs.open("/collections/docs/questions?state=accepted", java_script_enabled=False)
    card = page.locator("[data-question]", has=page.locator("textarea", has_text="which words stay plain?"))
    card.locator("button", has_text="Reject").click()
    page.goto("/collections/docs/questions?state=rejected")
    assert page.locator("textarea", has_text="which words stay plain?").count() == 1
