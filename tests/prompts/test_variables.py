"""What callers pass to a prompt: typed, checked, and data wherever it comes out."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.canonical import digest_json
from interlock.core.context import Context, EndUser, Principal
from interlock.core.errors import InvalidInput, Misconfigured
from interlock.core.ids import AppName, PrincipalId, ReleaseId, TenantId
from interlock.core.release import Release
from interlock.prompts.formatting import as_context, escaped
from interlock.prompts.service import read_prompt, render
from interlock.prompts.types import PromptSpec

CTX = Context(TenantId("acme"), Principal(PrincipalId("p"), "user"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def spec(system, variables, **more):
    return PromptSpec.model_validate({"system": system, "variables": variables, **more})


def shown(made, values):
    release = Release(ReleaseId("sha256:0"), AppName("helper"), "dev", "live", {"prompt": made.component()})
    return render(CTX, release, values)


def test_every_type_is_taken_and_written():
    made = spec(
        "{{ name }}|{{ count }}|{{ share }}|{{ on }}|{{ plan }}|{{ tags | join(',') }}|{{ order.id }}|{{ note }}",
        {
            "name": {"max_length": 10},
            "count": {"type": "integer", "minimum": 1},
            "share": {"type": "number"},
            "on": {"type": "boolean"},
            "plan": {"type": "enum", "values": ["free", "pro"]},
            "tags": {"type": "list", "items": {"max_length": 5}},
            "order": {"type": "object", "properties": {"id": {"type": "integer"}}},
            "note": {"default": "none given"},
        },
    )
    values = {"name": "Ada", "count": 2.0, "share": 0.5, "on": True, "plan": "pro", "tags": ["a", "b"]}
    assert shown(made, {**values, "order": {"id": 7}}) == "Ada|2|0.5|true|pro|a,b|7|none given"


@pytest.mark.parametrize(
    ("declared", "value", "code", "said"),
    [
        ({}, 1, "wrong_variable", "is a text"),
        ({"max_length": 3}, "abcd", "wrong_variable", "at most 3 characters, not 4"),
        ({"min_length": 3}, "ab", "wrong_variable", "at least 3 characters"),
        ({}, "x" * 20_001, "wrong_variable", "at most 20,000"),
        ({"type": "integer"}, True, "wrong_variable", "whole number"),
        ({"type": "integer"}, 1.5, "wrong_variable", "whole number"),
        ({"type": "number"}, float("inf"), "wrong_variable", "finite"),
        ({"type": "number", "maximum": 3}, 4, "wrong_variable", "at most 3"),
        ({"type": "boolean"}, "yes", "wrong_variable", "true or false"),
        ({"type": "enum", "values": ["a"]}, "b", "wrong_variable", "'a'"),
        ({"type": "list", "max_items": 1}, [1, 2], "wrong_variable", "at most 1"),
        ({"type": "list", "items": {"type": "integer"}}, [1, "x"], "wrong_variable", "'v.1' is a whole"),
        ({"type": "object", "properties": {"id": {}}}, {}, "wrong_variable", "'v.id' is missing"),
        ({"type": "object", "properties": {"id": {}}}, {"id": "a", "x": 1}, "wrong_variable", "'v.x' is not declared"),
        ({"type": "list"}, [[[[[[[[[[1]]]]]]]]]], "wrong_variable", "deep"),
        ({}, None, "missing_variable", "'v' is missing"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_its_name(declared, value, code, said):
    with pytest.raises(InvalidInput) as caught:
        shown(spec("{{ v }}", {"v": declared}), {} if value is None else {"v": value})
    assert (caught.value.code, caught.value.param.startswith("interlock.variables.v")) == (code, True)
    assert said in caught.value.message


def test_an_unknown_variable_is_refused_and_no_value_is_repeated():
    with pytest.raises(InvalidInput, match="declares no variable 'other'") as caught:
        shown(spec("{{ v }}", {"v": {}}), {"v": "a", "other": "my secret"})
    assert "secret" not in caught.value.message + str(caught.value.hint)


@pytest.mark.parametrize("value", ["{{ app }}", "{% for x in y %}", "{# no #}", "</order>", "${x}", "{{ 7*7 }}"])
@pytest.mark.parametrize("how", ["xml", "json", "markdown"])
def test_a_value_is_never_a_template_and_never_a_tag(value, how):
    text = shown(spec("<order>{{ v }}</order>", {"v": {}}, format=how), {"v": value})
    assert "49" not in text
    assert text.count("</order>") == 1


@pytest.mark.parametrize(
    "template",
    [
        "{{ v | safe }}",
        "{{ v | tojson }}",
        "{{ v.__class__ }}",
        "{{ v | attr('__class__') }}",
        "{{ v.format }}",
        "{{ context }}",
    ],
)
def test_a_template_cannot_say_that_a_value_is_no_data(template):
    with pytest.raises((Misconfigured, InvalidInput)):
        made = spec(template, {"v": {}})
        shown(made, {"v": "<b>"})


@pytest.mark.parametrize(
    "template",
    [
        "{{ v | upper }}",
        "{{ v ~ '' }}",
        "{{ '%s' | format(v) }}",
        "{% set x %}{{ v }}{% endset %}{{ x }}",
        "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(v) }}",
        "{% for c in [v] %}{{ c }}{% endfor %}",
        "{{ [v] | join }}",
        "{{ v | replace('q', 'r') }}",
        "{{ {'a': v} }}",
        "{{ [v] | context('x') }}",
        "{{ v | default('x') | trim | title }}",
    ],
)
def test_what_a_template_makes_of_a_value_is_data_still(template):
    text = shown(spec(f"<i>{template}</i>", {"v": {}}), {"v": "</i><j>"})
    assert "<j" not in text.lower()
    assert text.lower().count("</i>") == 1


@given(VALUES, st.text(max_size=12))
def test_xml_can_be_read_back(value, name):
    block = as_context(value, "xml", name or "order")
    ElementTree.fromstring(f"<all>{block}</all>")
    ElementTree.fromstring(f"<all>{escaped(value, 'xml')}</all>")


@given(VALUES)
def test_json_is_the_same_value_and_stays_between_tags(value):
    text = escaped(value, "json")
    assert json.loads(text) == value
    assert not set("<>&") & set(text)


@given(st.text(alphabet="#*_`-+=>|[]<1.\\ ab\n", max_size=40))
def test_markdown_of_a_text_begins_no_block_and_no_mark(value):
    for line in escaped(value, "markdown").splitlines():
        stripped = line.lstrip()
        assert not stripped.startswith(("#", "> ", "- ", "+ ", "* ", "```", "="))
    assert not any(
        mark in escaped(value, "markdown").replace("\\\\", "").replace("\\" + mark, "") for mark in "`*_<>[]|"
    )


def test_rows_of_one_shape_become_a_table_in_markdown():
    rows = [{"id": 1, "name": "a|b"}, {"id": 2, "name": "c"}]
    assert as_context(rows, "markdown", "orders").splitlines()[2:] == [
        "| id | name |", "| --- | --- |", "| 1 | a\\|b |", "| 2 | c |",
    ]  # fmt: skip
    assert as_context({"a": {"b": [1, None]}}, "markdown") == "- a:\n  - b:\n    - 1\n    -"


def test_a_prompt_that_uses_nothing_new_keeps_its_digest(tmp_path):
    file = tmp_path / "prompt.md"
    file.write_text("---\ntitle: T\n---\nAnswer {{ user }}.\n")
    component = read_prompt(file).component()
    assert component == {"system": "Answer {{ user }}.", "title": "T", "description": ""}
    # What version 0.1 froze for this very file.
    assert digest_json(component) == digest_json({"description": "", "system": "Answer {{ user }}.", "title": "T"})
    file.with_name("prompt.old.md").write_text("A text that merely lies there.")
    file.with_name("prompt.tests.yaml").write_text("tests: []\n")
    assert read_prompt(file).component() == component


def test_the_name_of_a_person_is_escaped_where_variables_are(tmp_path):
    made = spec("<u>{{ user }}</u>{{ v }}", {"v": {}})
    release = Release(ReleaseId("sha256:0"), AppName("helper"), "dev", "live", {"prompt": made.component()})
    assert render(CTX.on_behalf_of(EndUser("</u>")), release, {"v": "a"}) == "<u>&lt;/u&gt;</u>a"
