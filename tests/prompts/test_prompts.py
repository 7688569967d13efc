"""Prompts: what a template may say and do."""

from __future__ import annotations

import pytest

from interlock.core.context import Context, EndUser, Principal
from interlock.core.errors import InterlockError, InvalidInput, Misconfigured, NotFound
from interlock.core.ids import AppName, PrincipalId, ReleaseId, TenantId
from interlock.core.release import Release
from interlock.prompts.service import read_prompt, render


def release(system):
    return Release(ReleaseId("sha256:0"), AppName("helper"), "dev", "live", {"prompt": {"system": system}})


CTX = Context(TenantId("acme"), Principal(PrincipalId("p"), "user"))


def test_a_template_sees_its_four_variables():
    ctx = CTX.on_behalf_of(EndUser("ada", frozenset({"b", "a"})))
    text = render(ctx, release("{{ app }} {{ user }} {{ groups|join(',') }} {{ today|length }}"))
    assert text == "helper ada a,b 10"
    assert render(CTX, release("[{{ user }}{{ groups }}]")) == "[[]]"


def test_a_users_name_is_text_and_no_template():
    ctx = CTX.on_behalf_of(EndUser("{{ 7*7 }}"))
    assert render(ctx, release("Hello {{ user }}")) == "Hello {{ 7*7 }}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ app.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ lipsum.__globals__['os'].system('id') }}",
        "{{ groups.append('admin') }}",
        "{{ groups.__setitem__(0, 'admin') }}",
        "{{ '%s'|format(app.__class__) }}",
        "{{ app|attr('__class__') }}",
        "{{ ''['__class__'] }}",
        "{{ joiner.__init__['__globals__'] }}",
        "{{ namespace.__init__.__globals__ }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends '/etc/passwd' %}",
        "{{ '{0.__class__.__init__.__globals__}'.format(app) }}",
        "{{ 'x'.format_map({}).__class__ }}",
        "{{ (1).__class__ }}",
        "{{ secret }}",
        "{{ user.name }}",
        "{{ 1/0 }}",
        "{{ 'a' + 1 }}",
        "{{ groups[5] }}",
    ],
)
def test_an_escape_or_an_unknown_name_is_an_error_that_names_the_app(template):
    with pytest.raises(Misconfigured) as caught:
        render(CTX.on_behalf_of(EndUser("ada", frozenset({"g"}))), release(template))
    assert "'helper'" in caught.value.message
    assert (caught.value.param, caught.value.hint) == ("prompt", "variables are app, today, user and groups")


def test_a_mistake_in_a_template_names_its_line(tmp_path):
    file = tmp_path / "prompt.md"
    file.write_text("---\ntitle: x\n---\none\ntwo\n{% if %}\n")
    with pytest.raises(InvalidInput, match="line 3"):
        read_prompt(file)


@pytest.mark.parametrize(
    ("text", "system", "title"),
    [
        ("---\ntitle: T\n---\nBody.\n", "Body.", "T"),
        ("Just text.\n", "Just text.", ""),
        ("---\n---\nBody", "Body", ""),
        ("---\ntitle: T\n---\n---\nnot a second head\n---\n", "---\nnot a second head\n---", "T"),
        ("", "", ""),
    ],
)
def test_front_matter_is_told_from_the_body(tmp_path, text, system, title):
    file = tmp_path / "prompt.md"
    file.write_text(text)
    spec = read_prompt(file)
    assert (spec.system, spec.title) == (system, title)


@pytest.mark.parametrize(
    "content",
    [b"---\ntitle: [\n---\nx", b"---\n- a\n---\nx", b"---\nauthor: me\n---\nx", b"---\nsystem: mine\n---\nx",
     b"\xff\xfe",
     b"---\n1: 2\n---\nx"],
)  # fmt: skip
def test_a_file_that_is_wrong_is_named(tmp_path, content):
    file = tmp_path / "prompt.md"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"prompt\.md"):
        read_prompt(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"nowhere\.md"):
        read_prompt(tmp_path / "nowhere.md")
    with pytest.raises(InterlockError):
        read_prompt(tmp_path)
