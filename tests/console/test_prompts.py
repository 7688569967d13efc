"""Prompts in the console: read, drafted beside their preview, taken away as a patch."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from interlock import __version__

from .conftest import PROMPT, Site, Tabs

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


def test_the_page_of_a_version_tells_the_programs_own_version_and_not_the_prompts_insides(
    client: httpx2.Client,
) -> None:
    page = client.get("/prompts/down/versions/files").text
    assert f"Interlock {__version__}" in page
    assert "Version(prompt=" not in page


def test_a_broken_prompt_names_its_app_and_offers_no_label_without_a_version(client: httpx2.Client, site: Site) -> None:
    folder = site.root / "apps" / "slow"
    before = (folder / "prompt.md").read_text()
    (folder / "prompt.md").write_text("{% if %}")
    try:
        page = client.get("/prompts/slow").text
    finally:
        (folder / "prompt.md").write_text(before)
    assert "has a mistake in line 1" in page
    assert "No app uses it" not in page
    assert '<select name="version">' not in page, "sent empty it would take a label away"
    assert 'href="/prompts/slow/edit"' in page


def test_rules_find_faults_of_a_draft_beside_its_preview(client: httpx2.Client) -> None:
    known = opened(client, "planned")
    page = client.post("/prompts/planned/edit", data={**known, "text": "For {app}: <b>TODO</b>"}).text
    assert "What rules find" in page
    assert "single_braces" in page and f"{known['path']}:1" in page
    assert "TODO</b>" not in page.replace("TODO&lt;/b&gt;", ""), "the draft is text on the page"
    clean = client.post("/prompts/planned/edit", data={**known, "text": "Be kind."}).text
    assert "No rule finds a fault." in clean
    broken = client.post("/prompts/planned/edit", data={**known, "text": "{% if %}"}).text
    assert "What rules find" not in broken and "cannot be rendered" in broken


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_a_draft_goes_from_the_editor_through_rules_and_preview_to_a_patch_that_applies(
    tabs: Tabs, site: Site, tmp_path: Path
) -> None:
    page = tabs.open("/prompts/planned", accept_downloads=True)
    page.click("text=Write a draft")
    text = page.input_value("#text")
    page.fill("textarea[name=variables]", '{"plan": "pro"}')
    page.fill("#text", text + "\nAlways be brief. {plan}\nNever be brief.")
    page.click("button:has-text('Preview')")
    findings = page.locator("section[aria-label=Findings]")
    assert "single_braces" in findings.inner_text() and "contradiction" in findings.inner_text()
    assert "The pro plan for 1." in page.inner_text("#rendered")
    assert "+Never be brief." in page.inner_text("section[aria-label=Changes]")
    page.fill("#text", text + "\nBe brief.")
    page.click("button:has-text('Save as a draft')")
    assert page.evaluate("document.activeElement.name") == "why", "a draft has a reason"
    assert page.url.endswith("/edit")
    page.fill("input[name=why]", "short answers")
    # Enter in a field previews, it does not save.
    page.press("input[name=why]", "Enter")
    page.wait_for_selector("section[aria-label=Findings]")
    assert page.url.endswith("/edit")
    assert "contradiction" not in page.inner_text("section[aria-label=Findings]")
    page.click("button:has-text('Save as a draft')")
    page.wait_for_url(re.compile("/prompts/planned/versions/sha256:"))
    assert "Nobody is served this draft" in page.inner_text("main")
    with page.expect_download() as waited:
        page.click("text=Download the patch")
    patch = tmp_path / "draft.patch"
    waited.value.save_as(patch)
    shutil.copytree(site.root / "apps", tmp_path / "apps")
    subprocess.run(["git", "apply", str(patch)], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "apps" / "planned" / "plan.md").read_text().endswith("\nBe brief.")
    page.goto("/prompts/planned")
    assert "short answers" in page.inner_text("section[aria-label=Versions]")


@pytest.mark.browser
@pytest.mark.timeout(180)
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_prompts_fit_and_are_readable(tabs: Tabs, width: int, scheme: str) -> None:
    page = tabs.open("/prompts", width=width, color_scheme=scheme)
    for path in ("/prompts", "/prompts/planned", "/prompts/planned/edit", "/prompts/planned/versions/files"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        for details in page.locator("main details").all():
            details.evaluate("element => { element.open = true }")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} with details open"
        wide = (
            "[...document.querySelectorAll('main input, main select, main textarea')].filter(e => e.type !== 'hidden'"
        )
        wide += " && e.getBoundingClientRect().right > innerWidth).length"
        assert page.evaluate(wide) == 0, f"a field of {path} reaches out of the page"


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_a_draft_is_written_with_the_keyboard_alone(tabs: Tabs) -> None:
    page = tabs.open("/prompts/planned/edit")
    page.evaluate("document.activeElement.blur()")
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()")
        seen.append(name)
        if page.evaluate("document.activeElement.name") == "model":
            break
    wanted = ["text", "why", "Preview", "save", "variables", "question", "model"]
    assert [name for name in seen if name in wanted] == wanted, "in the order in which they are read"
