"""Answers are judged in a real browser with the keyboard alone, adjudicated, and the same by REST."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from interlock.testing.workspaces import write_workspace

from .conftest import PASSWORD, Site, Tabs, _environment, _serve, _stop, sign_in, watched_tabs
from .test_releases import fits

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
QUEUE = {"queue": "answers", "rubric": "Is it right?\nSay why not.", "labels": ["bad", "fair", "good"], "overlap": 1}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Site]:
    root = write_workspace(tmp_path / "workspace", apps={"helper": {"route": {"targets": ["extractive"]}}})
    found = Site("", root, _environment(tmp_path))
    for name, role in (("rita", "reviewer"), ("ron", "reviewer"), ("dora", "developer"), ("vera", "viewer")):
        found.run("accounts", "create", name, "--role", role, "--password", PASSWORD)
    process = _serve(found)
    yield found
    _stop(process)


@pytest.fixture
def shop_tabs(chromium: Any, shop: Site) -> Iterator[Tabs]:
    yield from watched_tabs(chromium, shop)


def fill(shop: Site, count: int = 3) -> None:
    (shop.root / "queue.yaml").write_text(json.dumps(QUEUE))
    lines = [
        {
            "id": f"i{n}",
            "question": f"What is {n}?",
            "answer": f"It is {n}.\n<b>Surely</b>.",
            "context": ["A passage " * 40],
            "reference": f"{n}",
        }
        for n in range(count)
    ]
    (shop.root / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shop.run("review", "create", str(shop.root / "queue.yaml"))
    shop.run("review", "add", "answers", str(shop.root / "items.jsonl"))


def test_items_are_judged_by_the_keyboard_and_the_last_word_can_be_changed(shop: Site, shop_tabs: Tabs) -> None:
    page = shop_tabs.open("/sign-in")
    sign_in(page, "rita")
    page.goto(f"{shop.url}/reviews")
    assert "nothing to review" in page.inner_text("main")
    fits(page, "reviews-empty")
    fill(shop)
    page.reload()
    page.get_by_role("link", name="Review", exact=True).last.click()
    assert "1, 3 to go" in page.inner_text("main")
    assert "<b>Surely</b>" in page.locator('section[aria-label="Answer"]').inner_text()
    fits(page, "review")
    page.keyboard.press("n")
    page.keyboard.type("half 3 of it")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.wait_for_selector("text=2, 2 to go")
    page.keyboard.press("3")
    page.wait_for_selector("text=3, 1 to go")
    page.keyboard.press("b")
    page.wait_for_selector("text=You said good")
    page.keyboard.press("1")
    page.wait_for_selector("text=3, 1 to go")
    page.keyboard.press("3")
    page.wait_for_selector("text=Nothing waits for you")
    fits(page, "review-done")
    told = json.loads(shop.run("review", "show", "answers", "--json"))
    said = {each["item"]["id"]: each["labels"] for each in told}
    assert [labels[0]["label"] for labels in said.values()] == ["fair", "bad", "good"]
    assert said["i0"][0]["note"] == "half 3 of it"
    assert all(labels[0]["seconds"] is not None for labels in said.values())
    assert page.goto(f"{shop.url}/reviews/answers/items").status == 403


def test_an_overseer_sees_where_people_disagree_and_decides(shop: Site, shop_tabs: Tabs) -> None:
    fill(shop, 2)
    for name, labels in (("rita", "good good"), ("ron", "good bad")):
        page = shop_tabs.open("/sign-in")
        sign_in(page, name)
        for label in labels.split():
            page.goto(f"{shop.url}/reviews/answers")
            page.get_by_role("button", name=label, exact=True).click()
            page.wait_for_selector("text=Noted")
    page = shop_tabs.open("/sign-in")
    sign_in(page, "dora")
    page.goto(f"{shop.url}/reviews")
    fits(page, "reviews")
    page.goto(f"{shop.url}/reviews/answers/items")
    text = page.inner_text("main")
    assert "1 disputed" in text and "1 agreed" in text
    assert "account:rita: good" in text and "account:ron: bad" in text
    fits(page, "review-items")
    page.select_option("select[name=label]", "fair")
    page.fill("input[name=note]", "half of it")
    page.get_by_role("button", name="Decide").click()
    page.wait_for_selector("text=1 decided")
    lines = shop.run("review", "export", "answers").splitlines()
    assert len(lines) == 2
    with page.expect_download() as got:
        page.get_by_role("link", name="Labels of what is settled").click()
    assert Path(got.value.path()).read_text().splitlines() == lines
    viewer = shop_tabs.open("/sign-in")
    sign_in(viewer, "vera")
    assert viewer.goto(f"{shop.url}/reviews").status == 403


def test_the_same_by_rest(shop: Site) -> None:
    with httpx2.Client(base_url=f"{shop.url}/api/v1") as client:
        assert client.post("/review-queues", json=QUEUE).status_code == 201
        assert client.post("/review-queues", json=QUEUE).status_code == 409
        wrong = client.post("/review-queues", json={**QUEUE, "queue": "Other"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "queue")
        item = {"id": "i", "question": "?", "answer": "!", "gold": "good", "asker": "ada"}
        assert client.post("/review-queues/answers/items", json={"items": [item]}).json() == {"added": 1}
        assert client.post("/review-queues/answers/items", json={"items": [item]}).json() == {"added": 0}
        task = client.post("/review-queues/answers/next").json()
        assert (task["item"]["id"], task["left"]) == ("i", 1)
        assert not {"gold", "asker", "documents"} & set(task["item"])
        assert (
            client.post("/review-queues/answers/labels", json={"item": "i", "label": "great"}).json()["error"]["param"]
            == "label"
        )
        assert (
            client.post("/review-queues/answers/labels", json={"item": "i", "label": "good", "seconds": 3}).status_code
            == 200
        )
        assert client.post("/review-queues/answers/next").status_code == 204
        (seen,) = client.get("/review-queues/answers/items", params={"state": "decided"}).json()["data"]
        assert (seen["final"], seen["labels"][0]["label"]) == ("good", "good")
        assert client.get("/review-queues/answers/items", params={"state": "odd"}).json()["error"]["param"] == "state"
        assert client.get("/review-queues/answers/agreement").json()["raters"][0]["gold"] == 1.0
        assert len(client.get("/review-queues/answers/labels").json()["data"]) == 1
        (told,) = client.get("/review-queues").json()["data"]
        assert (told["queue"], told["done"], told["left"]) == ("answers", 1, 0)
        assert (
            client.post("/review-queues/answers/decisions", json={"item": "none", "label": "good"}).status_code == 404
        )
        assert client.post("/review-queues/nothing/next").status_code == 404
        assert client.get("/review-queues", headers={"x-forwarded-for": "203.0.113.9"}).status_code == 401
