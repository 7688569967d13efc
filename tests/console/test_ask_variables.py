"""Fields for the variables of a prompt on the Ask page: typed, kept, and faulted where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest

from .conftest import Site, Tabs


@pytest.fixture
def client(site: Site) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=site.url) as found:
        yield found


def ask(client: httpx2.Client, **variables: str) -> httpx2.Response:
    csrf = re.search(r'name="csrf" value="([^"]*)"', client.get("/ask?app=planned").text)
    assert csrf is not None
    form = {"csrf": csrf[1], "question": "What do I have?", "app": "planned"}
    return client.post("/ask", data={**form, **{f"var.{name}": text for name, text in variables.items()}})


def field(page: str, name: str) -> str:
    match = re.search(rf'<(?:input|select|textarea) id="var-{name}"[^>]*>', page)
    assert match is not None, name
    return match[0]


def test_each_variable_has_a_field_of_its_type(client: httpx2.Client) -> None:
    page = client.get("/ask?app=planned&var.seats=4").text
    assert "<select" in field(page, "plan") and " required" in field(page, "plan")
    assert 'type="number"' in field(page, "seats") and 'min="1.0"' in field(page, "seats")
    assert 'value="4"' in field(page, "seats") and " required" not in field(page, "seats")
    assert 'maxlength="40"' in field(page, "note") and "<textarea" in field(page, "order")
    assert "What they pay for." in page
    assert 'name="var.' not in client.get("/ask?app=slow").text


def test_values_reach_the_prompt_and_an_empty_field_takes_the_default(client: httpx2.Client) -> None:
    assert "Pro." in ask(client, plan="pro", seats="3", order="{id: 7}").text
    assert "Free." in ask(client, plan="pro", seats="").text


@pytest.mark.parametrize(
    ("variables", "name", "said"),
    [
        ({"seats": "3"}, "plan", "The variable &#39;plan&#39; is missing."),
        ({"plan": "pro", "seats": "0"}, "seats", "The variable &#39;seats&#39; is at least 1."),
        ({"plan": "pro", "seats": "many"}, "seats", "is a whole number"),
        ({"plan": "pro", "order": "{a: [}"}, "order", "The variable &#39;order&#39; is no YAML."),
    ],
)
def test_what_is_wrong_with_a_value_stands_at_its_field(
    client: httpx2.Client, variables: dict[str, str], name: str, said: str
) -> None:
    answer = ask(client, **variables)
    assert answer.status_code == 400
    assert 'aria-invalid="true"' in field(answer.text, name)
    told = re.search(rf'<p class="field-error" id="var-{name}-error"[^>]*>([^<]*)</p>', answer.text)
    assert told is not None and said in told[1]
    assert answer.text.count('aria-invalid="true"') == 1
    for other, text in variables.items():
        if other in {"order"}:
            assert text in answer.text, "what was typed stays"


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_fields_come_with_their_app_and_keep_what_was_typed(tabs: Tabs) -> None:
    page = tabs.open("/ask?app=slow")
    page.fill("#question", "What do I have?")
    page.select_option("select[name=app]", "planned")
    page.wait_for_selector("#var-plan")
    assert page.input_value("#question") == "What do I have?"
    page.click("[data-go]")
    assert page.evaluate("document.activeElement.id") == "var-plan", "the browser asks for it itself"
    page.select_option("#var-plan", "pro")
    page.fill("#var-seats", "3")
    page.fill("#var-order", "{a: [}")
    page.click("[data-go]")
    page.wait_for_selector("#var-order-error:not([hidden])")
    assert "is no YAML" in page.inner_text("#var-order-error")
    assert page.evaluate("document.activeElement.id") == "var-order"
    assert page.get_attribute("#var-order", "aria-invalid") == "true"
    page.fill("#var-order", "")
    page.click("[data-go]")
    page.wait_for_selector("#answer >> text=Pro.")
    assert page.locator("#var-order-error").is_hidden()


@pytest.mark.browser
@pytest.mark.timeout(180)
@pytest.mark.parametrize("scripts", [True, False])
def test_a_sample_brings_its_values(tabs: Tabs, scripts: bool) -> None:
    page = tabs.open("/ask?app=planned", java_script_enabled=scripts)
    page.locator(".samples button").first.click()
    page.wait_for_selector("#answer >> text=Pro.")
    assert page.input_value("#var-seats") == "3"


@pytest.mark.browser
@pytest.mark.timeout(180)
@pytest.mark.parametrize("width", [360, 1280])
def test_the_fields_fit_the_page(tabs: Tabs, width: int) -> None:
    page = tabs.open("/ask?app=planned", width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".ask-variables .field").count() == 4
