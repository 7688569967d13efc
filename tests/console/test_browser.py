"""The console in a real browser, over a real server."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .conftest import PASSWORD, Site, Tabs, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

QUESTION = "Within how many days may a customer return hardware?"
QUOTE = "A customer may return hardware within 30 days of delivery for any reason."
PAGES = [
    "/",
    "/ask",
    "/documents",
    "/retrieval?q=return+hardware",
    "/collections/docs/graph",
    "/traces",
    "/apps",
    "/apps/quotes",
    "/gateway",
    "/keys",
    "/settings",
    "/search?q=policy",
    "/no-such",
]


def ask(page: Any, question: str = QUESTION, app: str = "quotes") -> None:
    page.goto(f"/ask?app={app}")
    page.fill("#question", question)
    page.click("[data-go]")
    page.wait_for_selector("#answer")


def document_link(page: Any, title: str) -> str:
    page.goto("/documents")
    link = page.locator("table a", has_text=title).first.get_attribute("href")
    assert link is not None
    return str(link)


def test_a_citation_opens_its_source_at_the_exact_words_beside_the_answer(tabs: Tabs) -> None:
    page = tabs.open("/ask")
    ask(page)
    assert "every sentence has its source" in page.inner_text("#answer")
    page.locator("#answer a.cite").first.click()
    mark = page.locator("#source #cited")
    mark.wait_for()
    assert mark.inner_text() == QUOTE
    assert page.url.endswith("/ask?app=quotes")
    page.keyboard.press("Escape")
    assert page.locator("#source").is_hidden()


def test_a_citation_is_a_page_of_its_own_on_a_phone(tabs: Tabs) -> None:
    page = tabs.open("/ask", width=390)
    ask(page)
    page.locator("#answer a.cite").first.click()
    page.wait_for_url(re.compile("/documents/doc_"))
    box = page.locator("#cited").bounding_box()
    assert page.inner_text("#cited") == QUOTE
    assert 0 <= box["y"] < 900


def test_a_question_is_asked_and_its_source_read_with_the_keyboard_alone(tabs: Tabs) -> None:
    page = tabs.open("/ask?app=quotes")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#answer a.cite')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#source #cited")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.matches('a.cite')")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_the_end_of_an_answer_is_told_to_a_screen_reader(tabs: Tabs) -> None:
    page = tabs.open("/ask")
    ask(page)
    assert page.get_attribute("#progress", "aria-live") == "polite"
    assert "every sentence has its source" in page.text_content("#progress")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_page_scrolls_sideways_or_breaks_the_content_policy(tabs: Tabs, width: int) -> None:
    page = tabs.open("/ask", width=width)
    ask(page)
    trace = page.get_attribute("[data-trace]", "href")
    document = document_link(page, "Returns policy")
    for path in [*PAGES, trace, document, "/sign-in"]:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        for details in page.locator("main details").all()[:4]:
            details.evaluate("element => { element.open = true }")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} with details open"


def test_the_menu_of_a_phone_reaches_every_page(tabs: Tabs) -> None:
    page = tabs.open("/ask", width=360)
    page.click("details.menu summary")
    page.locator("details.menu a", has_text="Documents").click()
    page.wait_for_url(re.compile("/documents$"))


def test_a_declined_question_says_why(tabs: Tabs) -> None:
    page = tabs.open("/ask")
    ask(page, "Does the moon have a parking garage?", app="cautious")
    said = page.inner_text("#answer")
    assert "declined" in said
    assert "this app answers from 1.00" in said


def test_a_model_that_is_down_is_told_with_its_code(tabs: Tabs) -> None:
    page = tabs.open("/ask")
    ask(page, "Anything", app="down")
    assert "provider_error" in page.inner_text("#answer")
    assert page.is_enabled("[data-go]")


def test_stop_cancels_the_answer_on_the_server_too(tabs: Tabs) -> None:
    page = tabs.open("/ask?app=slow")
    page.fill("#question", "Count")
    page.click("[data-go]")
    page.wait_for_selector("[data-text] >> text=One")
    page.click("[data-stop]")
    page.wait_for_selector("text=stopped by you")
    page.wait_for_timeout(400)
    page.goto("/traces?app=slow&status=cancelled")
    assert page.locator("tbody tr").count() >= 1


def test_everything_works_without_scripts(tabs: Tabs) -> None:
    page = tabs.open("/ask?app=quotes", java_script_enabled=False)
    page.fill("#question", QUESTION)
    page.click("[data-go]")
    assert QUOTE.rstrip(".") in page.inner_text("#answer")
    page.locator("#answer a.cite").first.click()
    assert page.inner_text("#cited") == QUOTE
    page.goto("/ask?app=quotes")
    page.locator(".samples button").first.click()
    assert "as dana" in page.inner_text("#answer")
    page.goto("/keys")
    page.fill("input[name=name]", "no-script")
    page.click("text=Create the key")
    assert page.inner_text(".secret").startswith("il_")


def test_hostile_documents_and_questions_are_shown_as_text(tabs: Tabs) -> None:
    page = tabs.open("/ask")
    ask(page, "When does the giraffe contract end? <img src=x onerror=\"document.title='owned'\">")
    page.locator("#answer a.cite").first.click()
    page.wait_for_selector("#source #cited")
    assert "<img src=x" in page.inner_text("#answer .panel-head")
    page.goto(document_link(page, "hostile"))
    assert "<script>document.title" in page.inner_text(".document")
    page.goto("/search?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert "owned" not in page.title()
    assert page.locator("main script, main img").count() == 0


def test_a_wrong_password_is_refused_and_the_fourth_try_is_locked_out(tabs: Tabs) -> None:
    page = tabs.open("/sign-in")
    for _ in range(3):
        sign_in(page, "lou", "wrong-password-1")
        assert "The name or the password is wrong" in page.inner_text("main")
    sign_in(page, "lou")
    assert "Too many failed sign-ins" in page.inner_text("main")


def test_a_viewer_sees_no_way_to_make_keys_and_is_refused_one(tabs: Tabs) -> None:
    page = tabs.open("/sign-in")
    sign_in(page, "vera")
    page.wait_for_url(re.compile("/$"))
    assert page.locator(".nav a", has_text="API keys").count() == 0
    token = page.get_attribute("input[name=csrf]", "value")
    refused = page.request.post("/keys", form={"csrf": token, "name": "mine"})
    assert refused.status == 403
    assert page.goto("/keys").status == 403
    page.goto("/documents")
    assert page.locator("main button", has_text="Ingest").count() == 0
    page.goto("/apps/quotes")
    assert page.locator("main button").count() == 0


def test_nothing_hints_at_a_document_that_a_person_may_not_read(tabs: Tabs) -> None:
    owner = tabs.open("/documents")
    secret = document_link(owner, "Salary bands")
    ask(owner, "What is the zebra band?")
    assert "salaries" not in owner.content().lower()
    assert "3 passages" not in owner.inner_text("#result") or "Salary" not in owner.inner_text("#result")
    page = tabs.open("/sign-in")
    sign_in(page, "vera")
    page.goto("/documents")
    assert "Salary" not in page.content()
    assert "2 documents" in page.inner_text(".lede")
    hidden = page.goto(secret)
    absent_path = "/documents/doc_" + "0" * 26
    shown = page.inner_text("main").replace(secret.rpartition("/")[2], "ID")
    absent = page.goto(absent_path)
    assert hidden.status == absent.status == 404
    assert shown == page.inner_text("main").replace(absent_path.rpartition("/")[2], "ID")
    assert page.goto(f"{secret}?as=fay").status == 404
    page.goto("/search?q=salary")
    assert "Salary bands" not in page.inner_text("main")


def test_an_overseer_reads_a_closed_document_only_as_one_of_its_readers(tabs: Tabs) -> None:
    page = tabs.open("/documents")
    link = document_link(page, "Salary bands")
    page.goto(link)
    assert "zebra" not in page.inner_text("main")
    page.select_option("select[name=as]", "fay")
    page.click("main button.btn")
    assert "zebra" in page.inner_text("main")


def test_a_key_is_shown_once_and_revoking_asks_once(tabs: Tabs) -> None:
    page = tabs.open("/keys")
    page.fill("input[name=name]", "checkout")
    page.check("input[value=viewer]")
    page.click("text=Create the key")
    secret = page.inner_text(".secret")
    assert page.request.get("/api/v1/version", headers={"authorization": f"Bearer {secret}"}).status == 200
    page.goto("/keys")
    assert secret not in page.content()
    page.click("a[aria-label='Revoke checkout']")
    assert page.inner_text("h1") == "Revoke checkout?"
    page.click("main button.stop")
    page.wait_for_url(re.compile("/keys$"))
    assert page.request.get("/api/v1/version", headers={"authorization": f"Bearer {secret}"}).status == 401


def test_an_ingest_is_followed_to_its_end_without_leaving_the_page(tabs: Tabs) -> None:
    page = tabs.open("/documents")
    read_ids = "all => all.map(job => job.dataset.job)"
    before = page.locator(".job").evaluate_all(read_ids)
    page.click("text=Ingest docs again")
    page.wait_for_selector(".job >> text=4 unchanged", timeout=30_000)
    shown = page.locator(".job").evaluate_all(read_ids)
    assert len(shown) == len(set(shown))
    # None is new when the server was at it already: then that run is followed.
    assert len(set(shown) - set(before)) <= 1


def test_an_operator_freezes_a_release_and_points_a_channel_at_it(tabs: Tabs) -> None:
    page = tabs.open("/sign-in")
    sign_in(page, "olga")
    page.goto("/apps/cautious")
    page.fill("input[name=note]", "first")
    page.click("text=Freeze as a release")
    page.wait_for_selector("#releases >> text=first")
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#releases button", has_text="stage").click()
    page.wait_for_selector("#releases .sig >> text=stage")
    page.goto("/ask")
    assert page.locator("option[value='cautious@stage']").count() == 1


def test_the_theme_is_remembered(tabs: Tabs) -> None:
    page = tabs.open("/ask")
    with page.expect_response(re.compile("/theme")):
        page.locator(".side .themes button", has_text="Dark").click()
    page.reload()
    assert page.get_attribute("html", "data-theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 25)"


def test_a_new_workspace_shows_the_commands_that_fill_the_page(tabs: Tabs, empty_site: Site) -> None:
    page = tabs.open("/", base=empty_site.url)
    said = page.inner_text("main")
    assert "interlock ingest documents" in said
    assert "interlock models fetch" in said
    for path, command in (("/traces", "interlock ask"), ("/documents", "interlock ingest"), ("/keys", "keys create")):
        page.goto(path)
        assert command in page.inner_text("main"), path


def test_signing_out_ends_the_session(tabs: Tabs) -> None:
    page = tabs.open("/sign-in")
    sign_in(page, "olga", PASSWORD)
    page.wait_for_selector("text=olga")
    page.locator(".side button", has_text="Sign out").click()
    page.wait_for_url(re.compile("/sign-in$"))
    page.goto("/settings")
    assert "olga" not in page.inner_text(".side .who")
