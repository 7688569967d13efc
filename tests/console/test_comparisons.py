"""Variants beside each other, what is advised, and models that go out of use, in a real browser and by REST."""

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
RIGHT, WRONG = {"reply": "It is {question}"}, {"reply": "Perhaps"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Site]:
    scripts = {"small": [{"match_system": "shown", **RIGHT}, WRONG], "large": [RIGHT]}
    prices = {
        f"{name}/m": {"input_per_million": usd, "output_per_million": usd}
        for name, usd in (("small", "1"), ("large", "30"))
    }
    root = write_workspace(
        tmp_path / "workspace",
        settings={
            "gateway": {
                "providers": {name: {"kind": "scripted", "script": script} for name, script in scripts.items()},
                "detect": False,
                "approvals": {"small/m": {"deprecated_on": "2031-05-01"}},
            },
            "cost": {"prices": prices},
        },
        apps={"helper": {"route": {"targets": ["small/m"], "retries": 0}}},
        prompt="Be kind. {% if examples is defined %}shown {{ examples }}{% endif %}",
    )
    cases = [{"id": f"c{n}", "input": f"word {n}", "expected": f"It is word {n}"} for n in range(60)]
    cases += [{"id": f"t{n}", "input": f"tune {n}", "expected": f"It is tune {n}", "split": "train"} for n in range(12)]
    suite = {"suite": "kindness", "cases": cases, "split": "test", "metrics": ["exact"]}
    evals = root / "apps" / "helper" / "evals"
    evals.mkdir()
    (evals / "kindness.yaml").write_text(json.dumps(suite))
    found = Site("", root, _environment(tmp_path))
    for name, role in (("dora", "developer"), ("rita", "risk"), ("vera", "viewer")):
        found.run("accounts", "create", name, "--role", role, "--password", PASSWORD)
    process = _serve(found)
    yield found
    _stop(process)


@pytest.fixture
def shop_tabs(chromium: Any, shop: Site) -> Iterator[Tabs]:
    yield from watched_tabs(chromium, shop)


def _advised(shop: Site) -> Any:
    suite = str(shop.root / "apps" / "helper" / "evals" / "kindness.yaml")
    asked = ["--app", "helper", "--suite", suite, "--model", "large/m", "--margin", "0.2", "-q", "--json"]
    return json.loads(shop.run("advise", *asked))


def test_advice_is_read_and_the_variant_that_it_names_frozen(shop: Site, shop_tabs: Tabs) -> None:
    page = shop_tabs.open("/sign-in")
    sign_in(page, "dora")
    page.goto(f"{shop.url}/comparisons")
    assert "Nothing was compared" in page.inner_text("main")
    fits(page, "comparisons-empty")
    found = _advised(shop)
    shop.run("migrate", "small/m", "--to", "large/m", "--margin", "0.2", "-q", "--no-gate", "--json")
    page.goto(f"{shop.url}/evaluations")
    page.get_by_role("link", name="Comparisons of variants").click()
    listed = page.inner_text("main")
    assert "small/m · prompt and examples" in listed
    assert "until 2031-05-01" in listed
    assert "ready" in page.locator('section[aria-label="Models that go out of use"]').inner_text()
    fits(page, "comparisons")
    page.goto(f"{shop.url}/comparisons/{found['id']}")
    advice = page.locator('section[aria-label="Advice"]').inner_text()
    assert "Take small/m · prompt and examples" in advice
    assert "Would examples in the prompt help?" in advice
    assert page.locator("svg.frontier").count() == 1
    fits(page, "comparison")
    page.on("dialog", lambda dialog: dialog.accept())
    rows = page.locator('section[aria-label="Variants"] tbody tr')
    rows.filter(has_text="small/m · prompt and examples").get_by_role("button", name="Freeze").click()
    page.wait_for_url("**/releases/helper/**")
    assert "prompt and examples" in page.inner_text("main")


def test_only_who_may_freeze_is_offered_it_and_others_see_nothing(shop: Site, shop_tabs: Tabs) -> None:
    found = _advised(shop)
    page = shop_tabs.open("/sign-in")
    sign_in(page, "rita")
    page.goto(f"{shop.url}/comparisons/{found['id']}")
    assert page.get_by_role("button", name="Freeze").count() == 0
    page.goto(f"{shop.url}/comparisons/mx_{'0' * 16}")
    assert "no comparison" in page.inner_text("main")
    other = shop_tabs.open("/sign-in")
    sign_in(other, "vera")
    assert other.goto(f"{shop.url}/comparisons").status == 403


def test_the_same_by_rest(shop: Site) -> None:
    found = _advised(shop)
    shop.run("migrate", "small/m", "--to", "large/m", "--margin", "0.2", "-q", "--no-gate", "--json")
    with httpx2.Client(base_url=f"{shop.url}/api/v1") as client:
        lines = client.get("/comparisons", params={"app": "helper"}).json()["data"]
        assert {line["id"] for line in lines} >= {found["id"]}
        assert client.get("/comparisons", params={"app": "other"}).json()["data"] == []
        line = next(each for each in lines if each["id"] == found["id"])
        assert line["recommended"] == "small/m · prompt and examples"
        whole = client.get(f"/comparisons/{found['id']}").json()
        assert whole["advice"] == found["advice"]
        place = f"/comparisons/{found['id']}/freeze"
        wrong = client.post(place, json={"variant": "none"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "variant")
        made = client.post(place, json={"variant": line["recommended"], "note": "as advised"})
        assert (made.status_code, made.json()["app"]) == (201, "helper")
        (ended,) = client.get("/migrations").json()["data"]
        assert ended["candidates"][0]["verdict"] == "ready"
        assert client.get("/comparisons/mx_0000000000").status_code == 404
        away = client.get("/comparisons", headers={"x-forwarded-for": "203.0.113.9"})
        assert away.status_code == 401
