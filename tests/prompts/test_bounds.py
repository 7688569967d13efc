"""Prompts: what a template may do is bounded, and says so soon."""

from __future__ import annotations

import time

import pytest

from interlock.core.context import Context, Principal
from interlock.core.errors import InvalidInput, Misconfigured
from interlock.core.ids import AppName, PrincipalId, ReleaseId, TenantId
from interlock.core.release import Release
from interlock.prompts.service import render

CTX = Context(TenantId("acme"), Principal(PrincipalId("p"), "user"))


def rendering(system: str, **more: object) -> str:
    component = {"system": system, **more}
    return render(CTX, Release(ReleaseId("sha256:0"), AppName("helper"), "dev", "live", {"prompt": component}))


@pytest.mark.parametrize("how", [{}, {"format": "xml"}])
@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in ('a,' * 9999).split(',') %}{% endfor %}{% endfor %}",
        "{% for a in range(9) %}{% for b in ('a,' * 99999).split(',') if b == 'c' %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10**9 }}",
        "{{ [1] * 10**9 }}",
        "{{ 10**9 * 'a' }}",
        "{{ 9**(9**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '%.1000000000f'|format(1.0) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        "{{ '{0:{w}}'.format_map({'w': 1000000000, '0': 1}) }}",
        "{{ 'a'|center(1000000000) }}",
        "{% autoescape 'a'|center(1000000000) %}{% endautoescape %}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a'['zfill'](1000000000) }}",
        "{{ '\t'.expandtabs(1000000000) }}",
        "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
        "{{ ('a' * 99999)|replace('a', 'b' * 99999) }}",
        "{{ ('b' * 99999).join('a' * 99999) }}",
        "{{ ('a' * 99999)|join('b' * 99999) }}",
        "{{ ('a\n' * 99999)|indent(99999) }}",
        "{{ ('a ' * 99999)|wordwrap(1, wrapstring='b' * 99999) }}",
        "{{ [1]|batch(1000000000, 0)|list }}",
        "{{ [1]|slice(1000000000)|list }}",
        "{% set ns = namespace(x=[1] * 9999) %}{% for i in range(500) %}{% set ns.x = [ns.x] %}{% endfor %}"
        "{{ ns.x|tojson(9) }}",
        "{{ 1.5|round(1000000000, 'ceil') }}",
        "{{ range(9999)|map(attribute='x', default='a' * 999999)|list }}",
        "{{ range(9999)|map('center', 99999)|list }}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = {1: ns.x, 2: ns.x} %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}"
        "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{% for x in [1] recursive %}{% if loop.depth < 60 %}{{ loop([1]) }}{{ loop([1]) }}{% endif %}{% endfor %}",
        "{% for i in range(9999) %}" + "a" * 9999 + "{% endfor %}",
        "{% set x %}{% for i in range(9999) %}" + "a" * 9999 + "{% endfor %}{% endset %}",
        "{{ 'a'.encode().center(1000000000) }}",
        "{{ (1).to_bytes(1000000000, 'big') }}",
        "{{ 'a'.translate({97: 'b' * 9999}) }}",
    ],
)
def test_what_would_never_end_or_fill_the_memory_is_refused_at_once(template: str, how: dict[str, object]) -> None:
    began = time.monotonic()
    with pytest.raises((Misconfigured, InvalidInput), match="prompt"):
        rendering(template, **how)
    assert time.monotonic() - began < 8


def test_the_message_names_the_prompt_and_what_is_bounded() -> None:
    with pytest.raises(Misconfigured, match=r"prompt of app 'helper'.*ranges are bounded to 10,000"):
        rendering("{% for a in range(99999) %}{% endfor %}")
    with pytest.raises(Misconfigured, match="loops and calls are bounded"):
        rendering("{% for a in range(999) %}{% for b in 'a' * 999 %}{% endfor %}{% endfor %}")


def test_partials_that_include_each_other_many_times_are_bounded() -> None:
    partials = {f"partials/{n}.md": f'{{% include "partials/{n + 1}.md" %}}' * 50 for n in range(7)}
    with pytest.raises(Misconfigured, match="does more than a template may"):
        rendering('{% include "partials/0.md" %}', partials={**partials, "partials/7.md": ""})


@pytest.mark.parametrize("how", [{}, {"format": "xml"}])
@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            "{% for i in range(3) %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last else '' }}{% endfor %}",
            "1/3,2/3,3/3",
        ),
        ("{% for i in range(9) if i % 4 == 0 %}{{ i }}{% else %}none{% endfor %}", "048"),
        ("{% for i in [] if i %}{% else %}none{% endfor %}", "none"),
        ("{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k ~ v }}{% endfor %}", "a1b2"),
        (
            "{{ ['a', 'b']|map('upper')|join('+') }} {{ 'x' * 3 }} {{ 2 ** 10 }} {{ '%05.1f' % 2.5 }}",
            "A+B xxx 1024 002.5",
        ),
        ("{{ 'a-b'.replace('-', ' ').title() }}{{ '{:>4}|{}'.format(7, 8) }}", "A B   7|8"),
        ("{% set ns = namespace(n=0) %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "10"),
        ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m('a') }}{{ m(x='b') }}", "[a][b]"),
        (
            "{% for x in [1] recursive %}{{ x }}{% if loop.depth < 3 %}{{ loop([2]) }}{% endif %}{% endfor %}",
            "122",
        ),
        ("{% set x, y = 1, 2 %}{{ x + y }}{{ 10 % 4 }}{{ 3|string|length }}", "321"),
        ("{{ range(3)|list|length }}{{ [1, 2]|sum }}{{ 2.345|round(1) }}{{ 'b'|indent(2, first=true) }}", "332.3  b"),
        ("{{ 'a\nb'|indent(2) }}", "a\n  b"),
    ],
)
def test_what_prompts_do_is_rendered_as_ever(template: str, text: str, how: dict[str, object]) -> None:
    assert rendering(template, **how) == text
