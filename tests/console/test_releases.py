"""Releases are read, signed, rolled out and stopped in a real browser; evaluations are read."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from interlock.app import open_app
from interlock.core.context import EndUser
from interlock.core.messages import ChatRequest, text_message
from interlock.testing.workspaces import write_workspace

from .conftest import PASSWORD, Site, Tabs, _environment, _serve, _stop, sign_in, watched_tabs

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
CASES = [{"id": f"c{n}", "input": f"word {n}", "expected": f"It is word {n}"} for n in range(30)]
SUITE = {
    "suite": "kindness",
    "cases": CASES,
    "metrics": ["exact"],
    "gate": {"rules": [{"metric": "exact", "at_least": 0.8}]},
}


async def _traffic(root: Path) -> None:
    async with open_app(root) as app:
        for n in range(120):
            ctx = app.owner().on_behalf_of(EndUser(f"person-{n}"))
            release = await app.parts.releases.resolve(ctx, "app/helper")
            request = ChatRequest("app/helper", (text_message("user", f"question {n}"),))
            async with aclosing(app.chat(ctx, request, release)) as events:
                async for _ in events:
                    pass


def prompt(site: Site, text: str) -> None:
    (site.root / "apps" / "helper" / "prompt.md").write_text(text)


def freeze(site: Site, *more: str) -> str:
    return str(json.loads(site.run("release", "build", "--app", "helper", "--json", *more))["id"])


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Site]:
    """A served workspace whose `prod` asks for a suite and for somebody of risk."""
    script = [{"reply": "It is {question}"}]
    root = write_workspace(
        tmp_path / "workspace",
        settings={"gateway": {"providers": {"scripted": {"kind": "scripted", "script": script}}, "detect": False}},
        apps={
            "helper": {
                "route": {"targets": ["scripted/m"]},
                "channels": {"prod": {"evaluations": ["kindness"], "sign_off": {"roles": ["risk"]}}},
            }
        },
        prompt="Be kind.\nBe brief.",
    )
    (root / "apps" / "helper" / "evals").mkdir()
    (root / "apps" / "helper" / "evals" / "kindness.yaml").write_text(json.dumps(SUITE))
    found = Site("", root, _environment(tmp_path))
    for name, role in (("rita", "risk"), ("olga", "operator"), ("vera", "viewer")):
        found.run("accounts", "create", name, "--role", role, "--password", PASSWORD)
    process = _serve(found)
    yield found
    _stop(process)


@pytest.fixture
def shop_tabs(chromium: Any, shop: Site) -> Iterator[Tabs]:
    yield from watched_tabs(chromium, shop)


def fits(page: Any, name: str) -> None:
    """In every width and theme; pictures where somebody asks for them."""
    pictures = os.environ.get("PICTURES")
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} at {width}"
        for theme in ("light", "dark") if pictures else ():
            page.emulate_media(color_scheme=theme)
            page.screenshot(path=f"{pictures}/{name}-{width}-{theme}.png", full_page=True)


def test_a_release_is_signed_by_risk_pointed_at_by_an_operator_and_rolled_out(shop_tabs: Tabs, shop: Site) -> None:
    page = shop_tabs.open("/releases")
    assert "Nothing is frozen" in page.inner_text("main")
    fits(page, "releases-empty")
    page.goto("/rollouts")
    assert "interlock rollout start" in page.inner_text("main")
    page.goto("/evaluations")
    assert "No suite was run here yet" in page.inner_text("main")
    first = freeze(shop, "--note", "first")
    sign_in(page, "rita")
    page.goto("/releases")
    assert "it was not run on this release" in page.inner_text("main")
    page.click(f"a[href='/releases/helper/{first}']")
    page.fill("textarea[name=note]", "")
    page.click("button[value=rejected]")
    assert "Say why it is rejected" in page.inner_text("main")
    page.goto(f"/releases/helper/{first}")
    page.fill("textarea[name=note]", "read thirty answers")
    page.click("button[value=approved]")
    page.wait_for_selector("[aria-label=Demands] >> text=signed by account:rita")
    assert "read thirty answers" in page.inner_text("[aria-label=Evidence]")
    assert page.locator("select[name=channel]").count() == 0, "risk moves no channel"
    fits(page, "release-first")


def test_what_a_release_changes_and_what_its_rollout_has_met_are_drawn(shop_tabs: Tabs, shop: Site) -> None:
    app = shop.root / "apps" / "helper" / "app.yaml"
    app.write_text("route: {targets: [scripted/m]}\n")
    freeze(shop, "--channel", "prod", "--note", "first")
    prompt(shop, "Be kind.\nBe wordy.")
    second = freeze(shop, "--note", "longer answers")
    shop.run("gate", "--app", "helper", "--release", second, "--run", "-q")
    spec = shop.root / "spec.yaml"
    # The server looks too: a step that may end would end in promotion before anybody has seen the page.
    how = "steps: [25, 50], min_units: 20, min_step_s: 3600, stops: [], guardrails: [{measure: error, margin: 0.1}]"
    spec.write_text(f"{{{how}}}")
    rollout = json.loads(
        shop.run("rollout", "start", second, "--app", "helper", "--spec", str(spec), "--reason", "try", "--json")
    )["id"]
    # Playwright's loop runs in this thread.
    asked = threading.Thread(target=asyncio.run, args=(_traffic(shop.root),))
    asked.start()
    asked.join()
    shop.run("rollout", "look", rollout)
    page = shop_tabs.open("/sign-in")
    sign_in(page, "olga")
    page.goto(f"/releases/helper/{second}")
    patch = page.inner_text("[aria-label=Difference]")
    assert "-Be brief." in patch
    assert "+Be wordy." in patch
    fits(page, "release")
    page.goto("/releases")
    assert "longer answers" in page.inner_text("main")
    fits(page, "releases")
    page.goto("/rollouts")
    page.click("text=helper@prod")
    assert page.locator("svg.harm[role=img]").get_attribute("aria-label").endswith("margin 0.1")
    fits(page, "rollout")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("button[value=pause]")
    assert page.evaluate("document.querySelector('input[name=reason]').validity.valueMissing"), "a reason is required"
    page.fill("input[name=reason]", "while we look")
    page.click("button[value=pause]")
    page.wait_for_selector("h1 >> text=paused")
    page.fill("input[name=reason]", "it is worse")
    page.click("button[value=abort]")
    page.wait_for_selector("h1 >> text=rolled back")
    assert "it is worse" in page.inner_text("[aria-label=History]")
    assert page.locator("[aria-label=Decide]").count() == 0
    fits(page, "rollout-over")
    page.goto("/rollouts")
    fits(page, "rollouts")
    page.goto("/evaluations")
    fits(page, "evaluations")
    page.click("text=kindness")
    assert "exact >= 0.8" in page.inner_text("[aria-label=Metrics]")
    assert page.locator("h1 .sig.clear", has_text="pass").count() == 1
    fits(page, "evaluation")
    page.goto("/rollouts/roll_nothing")
    assert "no rollout" in page.inner_text("main").casefold()
    fits(page, "rollout-error")


def test_an_experiment_is_started_drawn_and_concluded(shop_tabs: Tabs, shop: Site) -> None:
    (shop.root / "apps" / "helper" / "app.yaml").write_text("route: {targets: [scripted/m]}\n")
    freeze(shop, "--channel", "prod")
    prompt(shop, "Be wordy.")
    second = freeze(shop)
    plan = {
        "name": "wordy",
        "hypothesis": "longer answers are not slower",
        "app": "helper",
        "arms": [{"name": "brief"}, {"name": "wordy", "release": second}],
        "primary": {"measure": "latency", "effect": 0.5},
        "min_units": 25,
        "check_every_s": 3600,
    }
    file = shop.root / "plan.yaml"
    file.write_text(json.dumps(plan))
    page = shop_tabs.open("/sign-in")
    sign_in(page, "olga")
    page.goto("/experiments")
    assert "interlock experiment plan FILE" in page.inner_text("main")
    fits(page, "experiments-none")
    experiment = json.loads(shop.run("experiment", "plan", str(file), "--json"))["id"]
    page.goto("/experiments")
    page.click("text=wordy")
    assert "longer answers are not slower" in page.inner_text("[aria-label=Plan]")
    fits(page, "experiment-planned")
    page.on("dialog", lambda dialog: dialog.accept())
    page.fill("input[name=reason]", "we want to know")
    page.click("button[value=start]")
    page.wait_for_selector("h1 >> text=running")
    asked = threading.Thread(target=asyncio.run, args=(_traffic(shop.root),))
    asked.start()
    asked.join()
    shop.run("experiment", "status", experiment, "--look")
    page.reload()
    label = page.locator("[aria-label=Verdict] svg.harm[role=img]").first.get_attribute("aria-label")
    assert label.startswith("difference")
    assert "decides nothing" in page.inner_text("[aria-label=Exploratory]")
    fits(page, "experiment")
    page.fill("input[name=reason]", "no need to wait")
    page.click("button[value=conclude]")
    page.wait_for_selector("h1 >> text=concluded")
    assert "no need to wait" in page.inner_text("[aria-label=History]")
    fits(page, "experiment-over")
    page.goto("/experiments/exp_nothing")
    assert "no experiment" in page.inner_text("main").casefold()


def test_viewers_are_shown_none_of_these_places(shop_tabs: Tabs, shop: Site) -> None:
    page = shop_tabs.open("/sign-in")
    sign_in(page, "vera")
    for path in ("/releases", "/rollouts", "/experiments", "/evaluations"):
        page.goto(path)
        assert "Not allowed" in page.inner_text("main")
        assert page.locator(f"nav a[href='{path}']").count() == 0


def test_what_a_channel_asks_for_is_run_from_the_page_and_by_rest(shop_tabs: Tabs, shop: Site) -> None:
    first = freeze(shop, "--note", "first")
    shop.run("accounts", "create", "dora", "--role", "developer", "--password", PASSWORD)
    page = shop_tabs.open("/sign-in")
    sign_in(page, "rita")
    page.goto(f"/releases/helper/{first}")
    assert page.get_by_role("button", name="Run what it asks for").count() == 0
    other = shop_tabs.open("/sign-in")
    sign_in(other, "dora")
    other.goto(f"/releases/helper/{first}")
    other.get_by_role("button", name="Run what it asks for").click()
    other.wait_for_selector(".job >> text=succeeded", timeout=60_000)
    demands = other.inner_text("[aria-label=Demands]")
    assert "not enough evidence" in demands, "somebody of risk has still to sign"
    assert "kindness pass" in " ".join(demands.split())
    assert "kindness" in other.inner_text("[aria-label=Evidence]")
    fits(other, "release-run")
    other.locator(".job").get_by_role("link", name="kindness").click()
    assert "kindness" in other.inner_text("h1")
    second = freeze(shop, "--note", "the same")
    assert second == first
    prompt(shop, "Be kinder.")
    second = freeze(shop, "--note", "second")
    with httpx2.Client(base_url=f"{shop.url}/api/v1") as client:
        asked = client.post("/apps/helper/gate", json={"release": second})
        assert asked.status_code == 202
        again = client.post("/apps/helper/gate", json={"release": second})
        for _ in range(400):
            job = client.get(f"/jobs/{asked.json()['job']}").json()
            if job["state"] not in {"queued", "running"}:
                break
            time.sleep(0.1)
        assert again.json()["job"] == asked.json()["job"] or job["state"] == "succeeded"
        assert (job["state"], job["result"]["verdict"]) == ("succeeded", "not_enough_evidence")
        assert [run["suite"] for run in job["result"]["runs"]] == ["kindness"]
        wrong = client.post("/apps/helper/gate", json={"channel": "dev"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "channel")
        assert client.post("/apps/none/gate").status_code == 404
        assert client.post("/apps/helper/gate", json={"release": "sha256:00"}).status_code == 404
        assert client.post("/apps/helper/gate", json={"suite": "x"}).json()["error"]["param"] == "suite"


def test_an_operator_rolls_out_retires_and_exports_from_the_page(shop_tabs: Tabs, shop: Site) -> None:
    (shop.root / "apps" / "helper" / "app.yaml").write_text("route: {targets: [scripted/m]}\n")
    freeze(shop, "--channel", "prod", "--note", "first")
    prompt(shop, "Be kinder.")
    second = freeze(shop, "--note", "second")
    page = shop_tabs.open("/sign-in")
    sign_in(page, "olga")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"/releases/helper/{second}")
    with page.expect_download() as got:
        page.get_by_role("link", name="Export it, signed").click()
    assert got.value.suggested_filename == f"helper-{second[7:15]}.release.json"
    assert json.loads(Path(got.value.path()).read_text())["payloadType"]
    form = page.locator("form[action$='/rollout']")
    form.locator("input[name=reason]").fill("try it")
    form.get_by_role("button", name="Roll it out").click()
    page.wait_for_url("**/rollouts/**")
    assert second[7:15] in page.inner_text("main")
    prompt(shop, "Be the kindest.")
    third = freeze(shop, "--note", "third")
    page.goto(f"/releases/helper/{third}")
    fits(page, "release-operator")
    retiring = page.locator("form[action$='/retire']")
    retiring.locator("input[name=reason]").fill("it was a joke")
    retiring.get_by_role("button", name="Retire").click()
    page.wait_for_selector("text=Take the retirement back")
    assert page.get_by_role("button", name="Roll it out").count() == 0
    back = page.locator("form[action$='/reinstate']")
    back.locator("input[name=reason]").fill("no joke")
    back.get_by_role("button", name="Take the retirement back").click()
    page.wait_for_selector("button:has-text('Roll it out')")
    viewer = shop_tabs.open("/sign-in")
    sign_in(viewer, "vera")
    assert viewer.goto(f"/releases/helper/{third}/export").status == 403
