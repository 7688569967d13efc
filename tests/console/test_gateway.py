"""The page "Gateway" in a real browser, and what it answers to others."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Site, Tabs, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


def fill(page: Any, **fields: str) -> None:
    page.goto("/gateway")
    for name, value in fields.items():
        if name in {"over", "per", "mode"}:
            page.select_option(f"#set-limit select[name={name}]", value)
        else:
            page.fill(f"#set-limit input[name={name}]", value)
    page.click("#set-limit button.primary")


def test_a_budget_is_set_changed_used_and_removed(tabs: Tabs) -> None:
    page = tabs.open("/gateway")
    fill(page, name="team", money="50", over="month")
    page.wait_for_url("**/gateway#limits")
    assert "$50, each month; every call" in page.inner_text("#limits")
    page.click("[aria-label='Change team']")
    assert page.input_value("#set-limit input[name=money]") == "50"
    page.fill("#set-limit input[name=money]", "75")
    page.click("#set-limit button.primary")
    page.wait_for_selector("#limits >> text=$75")
    assert page.locator("#limits svg.use[role=img]").count() >= 1
    page.click("[aria-label='Remove team']")
    assert page.inner_text("h1") == "Remove team?"
    page.click("main button.stop")
    page.wait_for_url("**/gateway#limits")
    assert "team" not in page.inner_text("#limits")


def test_what_was_typed_is_kept_when_it_is_refused(tabs: Tabs) -> None:
    page = tabs.open("/gateway")
    fill(page, name="not a name", requests="5", over="60s", per="user")
    assert "a name is 1 to 128 letters" in page.inner_text("#set-limit [role=alert]").lower()
    assert page.input_value("#set-limit input[name=name]") == "not a name"
    assert page.input_value("#set-limit input[name=requests]") == "5"
    assert page.input_value("#set-limit select[name=per]") == "user"


def test_the_page_shows_targets_routes_register_and_tests_a_provider(tabs: Tabs) -> None:
    page = tabs.open("/ask?app=down")
    page.fill("#question", "Anything")
    page.click("[data-go]")
    page.wait_for_selector("#answer")
    page.goto("/gateway")
    assert "provider_error" in page.inner_text("[aria-label=Targets]")
    assert "app/down" in page.inner_text("[aria-label=Routes]")
    assert "unregistered" in page.inner_text("[aria-label='Provider register']")
    page.click("[aria-label='Test slow']")
    assert "answers" in page.inner_text("#probed")


def test_a_limit_that_is_used_up_is_told_first(tabs: Tabs, site: Site) -> None:
    site.run("limits", "set", "full", "--requests", "0", "--window", "60s", "--app", "nobody")
    page = tabs.open("/gateway")
    while "full" not in page.inner_text("#limits"):
        # The server looks for changes every two seconds; the test's own timeout bounds this.
        page.wait_for_timeout(200)
        page.reload()
    assert page.inner_text("h1") == "1 limit is reached"
    site.run("limits", "remove", "full")


def test_a_viewer_is_shown_no_gateway_and_an_operator_its_forms(tabs: Tabs) -> None:
    page = tabs.open("/sign-in", extra_http_headers={"x-forwarded-for": "203.0.113.9"})
    sign_in(page, "vera")
    assert page.locator("nav a[href='/gateway']").count() == 0
    page.goto("/gateway")
    assert "needs the role" in page.inner_text("main")
    other = tabs.open("/sign-in", extra_http_headers={"x-forwarded-for": "203.0.113.9"})
    sign_in(other, "olga")
    other.goto("/gateway")
    assert other.locator("#set-limit").count() == 1


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_every_width_also_when_it_is_full(tabs: Tabs, site: Site, width: int) -> None:
    name = "a-very-long-name-of-a-limit-that-goes-on-and-on:for-the-whole-organisation"
    site.run("limits", "set", name, "--tokens", "123456789", "--period", "month", "--per", "key", "--per", "model")
    page = tabs.open("/gateway", width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#set-limit details").evaluate("element => { element.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto(f"/gateway/limits/{name}/remove")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    site.run("limits", "remove", name)


def test_an_empty_workspace_says_how_to_fill_the_page(tabs: Tabs, empty_site: Site) -> None:
    page = tabs.open("/gateway", base=empty_site.url)
    assert page.inner_text("h1") == "No target was asked yet"
    assert "interlock budgets set" in page.inner_text("#limits")


def test_a_limit_that_is_not_there_is_a_page_that_says_so(tabs: Tabs) -> None:
    page = tabs.open("/gateway?change=nothing")
    assert page.inner_text("h1") == "Nothing here"
    page.goto("/gateway/limits/nothing/remove")
    assert page.inner_text("h1") == "Nothing here"
