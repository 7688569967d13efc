"""A release's page: who could not read its answers, what is accepted, and what rules find in its prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Site, Tabs

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


def reads(site: Site, name: str, state: dict[str, Any]) -> None:
    file = site.root / f"{name}.json"
    file.write_text(json.dumps({"type": "object", "properties": {"state": state}, "required": ["state"]}))
    site.run("release", "consumers", "add", "formed", "--name", name, "--schema", str(file), "--contact", f"#{name}")


def test_what_cannot_be_told_is_accepted_with_a_reason_and_what_is_known_is_not(tabs: Tabs, site: Site) -> None:
    release = json.loads(site.run("release", "build", "--app", "formed", "--json"))["id"]
    page = tabs.open(f"/releases/formed/{release}")
    assert page.locator("#consumers").count() == 0
    assert "placeholder_left" in page.inner_text("section[aria-label=Findings]")
    reads(site, "billing", {"type": "string"})
    reads(site, "search", {"type": "string", "pattern": "^(open|paid)$"})
    page.reload()
    panel = page.locator("#consumers")
    assert "can read it" in panel.inner_text() and "cannot be told" in panel.inner_text()
    assert "#search" in panel.inner_text() and "pattern" in panel.inner_text()
    panel.locator("button:has-text('Accept')").click()
    assert page.evaluate("document.activeElement.name") == "reason", "it needs a reason"
    panel.locator("input[name=reason]").fill("the same words as ever")
    with page.expect_navigation():
        panel.locator("button:has-text('Accept')").click()
    assert "accepted" in panel.inner_text()
    assert panel.locator("button:has-text('Accept')").count() == 0
    assert "the same words as ever" in page.inner_text("#evidence")
    reads(site, "legal", {"type": "integer"})
    page.reload()
    assert "cannot read it" in panel.inner_text()
    assert "is of type string, and integer is read" in panel.inner_text()
    assert panel.locator("button:has-text('Accept')").count() == 0
    page.set_viewport_size({"width": 360, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for name in ("billing", "search", "legal"):
        site.run("release", "consumers", "remove", "formed", name)
