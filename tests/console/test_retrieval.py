"""The retrieval debugger and the graph in a real browser: what they tell, and to whom."""

from __future__ import annotations

import pytest

from .conftest import Tabs, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

QUESTION = "Within how many days may a customer return hardware?"


def test_a_search_is_told_stage_by_stage_and_each_passage_opens_its_place(tabs: Tabs) -> None:
    page = tabs.open("/retrieval")
    page.keyboard.type(QUESTION)  # the question has the focus
    page.keyboard.press("Enter")
    page.wait_for_selector(".candidates")
    stages = page.locator(".stages li > span:first-child").all_inner_texts()
    assert stages[:2] == ["Words of the question", "By words"]
    assert "Rights checked again" in stages
    first = page.locator(".candidates tbody tr").first
    assert "30 days of delivery" in first.inner_text()
    assert "in the context" in first.inner_text()
    assert "customer, return" in first.inner_text() or "return" in first.inner_text()
    assert page.locator("[aria-labelledby=context-title] details").count() >= 1
    first.locator("a").click()
    page.wait_for_selector("#cited")
    assert "within 30 days" in page.inner_text("#cited")


def test_it_says_why_a_document_is_missing_and_keeps_what_was_typed_when_something_is_wrong(tabs: Tabs) -> None:
    page = tabs.open("/retrieval")
    page.fill(".debugger [name=q]", QUESTION)
    page.click(".debugger summary")
    page.fill("[name=document]", "hostile.txt")
    page.fill("[name=limit]", "1")
    page.click(".debugger .btn")
    assert "hostile.txt" in page.inner_text("main .notice")
    page.fill("[name=limit]", "0")
    page.click(".debugger .btn")
    assert "limit must be a number from 1 to 200" in page.inner_text("[role=alert]").lower()
    assert page.input_value(".debugger [name=q]") == QUESTION
    page.fill("[name=limit]", "5")
    page.fill("[name=steps]", "spelng")
    page.click(".debugger .btn")
    assert "spelng" in page.inner_text("[role=alert]")
    page.fill("[name=steps]", "spelling diversity.mmr=0.5")
    page.click(".debugger .btn")
    told = page.inner_text("[aria-label=Steps]")
    assert "spelling" in told
    assert "mmr" in told


def test_a_search_as_somebody_shows_that_persons_documents_alone(tabs: Tabs) -> None:
    page = tabs.open("/retrieval?q=zebra+band+of+a+senior+engineer&as=dana")
    assert "61,000" not in page.inner_text("main")
    assert "Salary" not in page.inner_text("main")
    page.locator("[aria-label='Kept away by rights'] a").first.click()
    assert "The caller is none of its readers" in page.inner_text("main .notice")
    page.select_option("[name=as]", "fay")
    page.click(".debugger .btn")
    assert "61,000" in page.inner_text(".candidates tbody tr >> nth=0")


def test_an_app_that_searches_the_collection_can_be_asked_the_same(tabs: Tabs) -> None:
    page = tabs.open("/retrieval?q=" + QUESTION.replace(" ", "+"))
    page.locator("[aria-labelledby=words-title] a[href^='/ask']").first.click()
    page.wait_for_selector("#question")
    assert page.input_value("#question") == QUESTION


def test_a_half_written_filter_names_its_part(tabs: Tabs) -> None:
    page = tabs.open("/retrieval?q=hardware&filter=year%3E%3E")
    assert "'>>' is no comparison" in page.inner_text("[role=alert]")
    page.goto("/retrieval?q=hardware&filter=yeer%3D3")
    assert "has a field 'yeer'" in page.inner_text("main")


def test_a_viewer_searches_with_own_rights_and_learns_nothing_of_closed_documents(tabs: Tabs) -> None:
    page = tabs.open("/sign-in")
    sign_in(page, "vera")
    page.goto("/retrieval?q=zebra+band&as=fay")
    assert "Salary" not in page.inner_text("main")
    assert page.locator("[aria-label='Kept away by rights']").count() == 0
    assert page.goto("/retrieval?q=zebra+band&collection=nope").status == 404
    assert page.locator("[name=as]").count() == 0
    hidden = page.goto("/retrieval?q=zebra+band&document=finance/salaries.md")
    assert hidden.status == 404
    shown = page.inner_text("[role=alert]")
    absent = page.goto("/retrieval?q=zebra+band&document=finance/nothing.md")
    assert absent.status == 404
    assert shown == page.inner_text("[role=alert]")
    refused = page.goto("/retrieval?q=zebra&steps=expansion.hyde=true")
    assert refused.status == 403


def test_the_graph_leads_from_a_name_to_the_places_that_say_so(tabs: Tabs) -> None:
    page = tabs.open("/retrieval?q=return+hardware")
    page.get_by_text("What the documents name").click()
    page.wait_for_selector("h1")
    page.locator("[aria-label=Entities] a").first.click()
    page.wait_for_url("**/graph?entity=*")
    page.locator("main .lede a").first.click()
    page.wait_for_url("**/documents/doc_*")
    assert page.goto("/collections/docs/graph?entity=No+such+thing").status == 404
    assert "no document that you may read names this entity" in page.inner_text("[role=alert]").lower()
    assert page.goto("/collections/nothing/graph").status == 404
