"""Prompt files: partials, texts for certain models, few-shot examples; and what a prompt must not read."""

from __future__ import annotations

import json

import pytest

from interlock.core.context import Context, Principal
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import AppName, PrincipalId, ReleaseId, TenantId
from interlock.core.release import Release
from interlock.prompts.choosing import choose
from interlock.prompts.files import Shelf, load_prompt
from interlock.prompts.service import compose
from interlock.prompts.types import ExamplesSpec

CTX = Context(TenantId("acme"), Principal(PrincipalId("p"), "user"))


@pytest.fixture
def shop(tmp_path):
    """Writes files of a workspace and loads its prompt."""

    def write(text, **files):
        home = tmp_path / "apps" / "helper"
        home.mkdir(parents=True, exist_ok=True)
        (tmp_path / "prompts" / "partials").mkdir(parents=True, exist_ok=True)
        (home / "prompt.md").write_text(text)
        for name, body in files.items():
            at = tmp_path / name.replace("__", "/")
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_text(body)
        return load_prompt(home / "prompt.md", Shelf(tmp_path, tmp_path / "prompts"))

    return write


def composed(loaded, values=None, **more):
    component = loaded.spec.component()
    release = Release(ReleaseId("sha256:0"), AppName("helper"), "dev", "live", {"prompt": component}, {"prompt": "sha"})
    return compose(CTX, release, values or {}, **more)


def test_partials_are_pinned_with_their_text(shop):
    text = 'A {% include "partials/tone.md" %}'
    first = shop(
        text,
        **{
            "prompts__partials__tone.md": 'Kind. {% include "partials/end.md" %}\n',
            "prompts__partials__end.md": "End {{ app }}.",
        },
    )
    assert composed(first).system == "A Kind. End helper."
    assert set(first.spec.partials) == {"partials/tone.md", "partials/end.md"}
    second = shop(text, **{"prompts__partials__end.md": "Another end."})
    assert second.digest != first.digest
    assert composed(first).system == "A Kind. End helper.", "a release keeps what it pinned"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("partials/none.md", NotFound),
        ("../apps/helper/app.yaml", InvalidInput),
        ("partials/../../secret.md", InvalidInput),
        ("/etc/passwd", InvalidInput),
        ("tone.md", InvalidInput),
    ],
)
def test_a_partial_is_of_the_folder_of_prompts_alone(shop, name, error):
    with pytest.raises(error):
        shop(f'{{% include "{name}" %}}', **{"secret.md": "s", "prompts__tone.md": "t"})


def test_a_partial_that_is_a_link_out_of_the_folder_is_refused(shop, tmp_path):
    (tmp_path / "secret.md").write_text("secret")
    (tmp_path / "prompts" / "partials").mkdir(parents=True)
    (tmp_path / "prompts" / "partials" / "x.md").symlink_to(tmp_path / "secret.md")
    with pytest.raises(InvalidInput, match="link"):
        shop('{% include "partials/x.md" %}')


def test_a_partial_of_a_computed_name_and_one_that_includes_itself_are_refused(shop):
    with pytest.raises(InvalidInput, match="computed"):
        shop("{% set n = 'partials/x.md' %}{% include n %}")
    with pytest.raises(InvalidInput, match="itself"):
        shop('{% include "partials/x.md" %}', **{"prompts__partials__x.md": '{% include "partials/x.md" %}'})


@pytest.mark.parametrize("file", ["../../interlock.yaml", "/etc/passwd", "../other/prompt.md", "shots.txt"])
def test_a_prompt_reads_examples_and_variants_from_its_own_place_alone(shop, file):
    files = {"interlock.yaml": "x", "apps__other__prompt.md": "other", "apps__helper__shots.txt": "x"}
    with pytest.raises(InvalidInput, match="names"):
        shop(f"---\nvariants: [{{name: a, models: ['*'], file: {file}}}]\n---\nA", **files)
    with pytest.raises(InvalidInput, match="names"):
        shop(f"---\nexamples: {{file: {file}}}\n---\nA", **files)


def test_an_undeclared_variable_is_found_when_the_file_is_read(shop):
    with pytest.raises(InvalidInput, match="'paln', which is not declared") as caught:
        shop("---\nvariables: {plan: {}}\n---\n{{ paln }}")
    assert caught.value.param == "variables.paln"
    with pytest.raises(InvalidInput, match=r"partials/x\.md.*'other'"):
        shop(
            '---\nvariables: {plan: {}}\n---\n{% include "partials/x.md" %}',
            **{"prompts__partials__x.md": "{{ other }}"},
        )


@pytest.mark.parametrize(
    ("head", "field"),
    [
        ("variables: {app: {}}", "app is there already"),
        ("variables: {v: {type: enum}}", "needs its values"),
        ("variables: {v: {type: integer, max_length: 3}}", "max_length belongs to string"),
        ("variables: {v: {required: true, default: x}}", "no default"),
        ("variables: {v: {type: date}}", "variables.v.type"),
        ("variables: {BIG: {}}", "variables"),
        ("format: html", "format"),
        ("author: me", "author"),
    ],
)
def test_front_matter_that_is_wrong_is_named_by_its_field(shop, head, field):
    with pytest.raises(InvalidInput, match=field):
        shop(f"---\n{head}\n---\nText {{{{ v }}}}")


def test_a_text_for_certain_models_stands_beside_the_prompt_or_is_named(shop):
    loaded = shop(
        "---\nvariants: [{name: big, models: ['*/*large*'], file: texts/big.md}]\n---\nDefault for {{ app }}",
        **{
            "apps__helper__texts__big.md": "Big for {{ app }}",
            "apps__helper__prompt.claude.md": "---\nmodels: ['anthropic/*']\n---\nClaude {{ app }}",
            "apps__helper__prompt.notes.md": "no variant",
        },
    )
    assert [each.name for each in loaded.spec.variants] == ["big", "claude"]
    use = composed(loaded).use
    assert [(each.name, each.text) for each in use.variants] == [("big", "Big for helper"), ("claude", "Claude helper")]
    assert "apps/helper/prompt.notes.md" not in loaded.files


ROWS = [{"input": f"q{n}", "output": f"a{n}", "tags": ["x" if n % 2 else "y"]} for n in range(6)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def test_examples_go_before_the_conversation_or_where_the_template_says(shop):
    files = {"apps__helper__shots.jsonl": LINES}
    loaded = shop("---\nexamples: {file: shots.jsonl, select: first, count: 2}\n---\nText", **files)
    assert [each.input for each in composed(loaded).turns] == ["q0", "q1"]
    inline = composed(loaded, inline=True)
    assert inline.turns == ()
    assert inline.system.startswith("Text\n\n<examples>")
    placed = shop("---\nexamples: {file: shots.jsonl, select: first, count: 1}\n---\nA {{ examples }} B", **files)
    made = composed(placed)
    assert made.turns == ()
    assert made.system == ("A <examples>\n<example>\n<input>q0</input>\n<output>a0</output>\n</example>\n</examples> B")
    assert made.tokens["examples"] > 0


def chosen(values=None, ranks=None, **how):
    made = choose(ExamplesSpec.model_validate({"rows": ROWS, **how}), values or {}, ranks)
    return [each.input for each in made]


def test_examples_are_chosen_by_place_tag_nearness_and_budget():
    assert chosen() == ["q0", "q1", "q2", "q3", "q4", "q5"]
    assert chosen(select="tag", tags=["x"], count=2) == ["q1", "q3"]
    assert chosen({"kind": "y"}, select="tag", tag_from="kind") == ["q0", "q2", "q4"]
    assert chosen(select="similar", count=2, ranks=[4, 1, 0, 2, 3, 5]) == ["q1", "q4"], "the nearest stands last"
    assert chosen(select="similar", count=2) == ["q0", "q1"], "without an embedder the first ones"
    assert chosen(max_tokens=5) == ["q0", "q1"]


@pytest.mark.parametrize("line", ["no json", '{"input": "a"}', '{"input": "a", "output": "b", "more": 1}', "[1]"])
def test_a_line_that_is_no_example_is_named(shop, line):
    with pytest.raises(InvalidInput, match="line 2"):
        shop(
            "---\nexamples: {file: shots.jsonl}\n---\nA",
            **{"apps__helper__shots.jsonl": '{"input": "a", "output": "b"}\n' + line},
        )
