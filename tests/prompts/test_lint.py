"""Rules for prompts: each finds its fault, and lets be what only looks like it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlock.prompts.annotations import github, sarif
from interlock.prompts.files import Shelf, load_prompt
from interlock.prompts.linting import AppFacts, Finding, Secret, Seen, lint, rules, subject_of

TEXT = "variables: {note: {}}"
PLAN = "variables: {plan: {type: enum, values: [a]}}"


def look(
    folder: Path, text: str, app: AppFacts | None = None, *, examples: list[Any] | None = None, **files: str
) -> list[Finding]:
    """Findings of a prompt, rules that are off too."""
    (folder / "prompts" / "partials").mkdir(parents=True, exist_ok=True)
    (folder / "p.md").write_text(text)
    for name, content in files.items():
        (folder / name.replace("__", "/").replace("_md", ".md")).write_text(content)
    if examples is not None:
        (folder / "shots.jsonl").write_text("".join(json.dumps(each) + "\n" for each in examples))
    loaded = load_prompt(folder / "p.md", Shelf(folder, folder / "prompts"))
    secrets = lambda text: [Secret("password", text.index("hunter2"))] if "hunter2" in text else []  # noqa: E731
    return lint(subject_of(loaded.spec, loaded, app=app, secrets=secrets), {"undescribed_variable": "warn"})


def shots(select: str = "all") -> str:
    return f"examples: {{file: shots.jsonl, select: {select}}}"


DOCUMENTS = AppFacts("helper", documents=True)
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "language": {"const": "de"}},
    "required": ["answer"],
}
FORMED = AppFacts("helper", output=SCHEMA, fits_output=lambda text: "" if text.startswith("{") else "it is no JSON")

ONE = [{"input": "a", "output": "b"}]
TWICE = [{"input": "a  B", "output": "b"}, {"input": "a b", "output": "c"}]
LISTED = "---\nvariables: {passages: {type: list}}\n---\n{{ passages | context('p') }}"
SEEN = AppFacts("h", seen=[Seen(0, "s", "c1", "input", 1.0, exact=True)])
NEARLY = AppFacts("h", seen=[Seen(0, "s", "", "expected", 0.9, exact=False)])

CASES: list[tuple[str, str, AppFacts | None, list[Any] | None]] = [
    ("unused_variable", f"---\n{PLAN}\n---\nHi", None, None),
    ("undefined_variable", "Hi {{ name }}", None, None),
    ("caller_text_in_system", f"---\n{TEXT}\n---\nSee <note>{{{{ note }}}}</note>", None, None),
    ("undelimited_variable", f"---\n{TEXT}\n---\nSee {{{{ note }}}} and answer.", None, None),
    ("delimiter_not_escaped", f"---\n{TEXT}\n---\n```\n{{{{ note }}}}\n```", None, None),
    ("delimiter_not_escaped", f"---\n{TEXT}\nformat: markdown\n---\nSay \"{{{{ note }}}}\"", None, None),
    ("delimiter_not_escaped", "For <user>{{ user }}</user>", None, None),
    ("unbalanced_delimiter", "<rules>\nBe kind.\n</rule>\n<rules>\n", None, None),
    ("unbalanced_delimiter", "```json\n{}\n", None, None),
    ("single_braces", f"---\n{PLAN}\n---\nThe plan is {{plan}}, {{{{ plan }}}}.", None, None),
    ("braces_in_examples", f"---\n{shots()}\n---\nHi", None, [{"input": "a {{ x }}", "output": "b"}]),
    ("duplicate_examples", f"---\n{shots()}\n---\nHi", None, [*TWICE]),
    ("secret", "The password is hunter2.", None, None),
    ("secret", f"---\n{shots()}\n---\nHi", None, [{"input": "hunter2", "output": "b"}]),
    ("too_long", "word " * 200, AppFacts("helper", context_tokens=300, context_of="small/m", answer_tokens=60), None),
    ("placeholder_left", "Be kind. TODO: tone", None, None),
    ("placeholder_left", "You work for [insert company].", None, None),
    ("empty_text", "---\ntitle: x\n---\n{# nothing #}", None, None),
    ("undescribed_variable", f"---\n{PLAN}\n---\n{{{{ plan }}}}", None, None),
    ("today_not_told", "Count the days from today.", None, None),
    ("contradiction", "Always use bullet points.\nBe kind.\nNever use bullet points.", None, None),
    ("contradiction", "Answer in German. Keep it short. Always reply in English.", None, None),
    ("contradiction", "Write at most 3 sentences. Give at least five sentences.", None, None),
    ("format_not_told", "Be kind.", FORMED, None),
    ("format_contradicts_output", "Answer in Markdown. The answer is kind.", FORMED, None),
    ("language_not_told", "Give the answer as JSON.", FORMED, None),
    ("example_breaks_output", f"---\n{shots()}\n---\nJSON", FORMED, [{"input": "a", "output": "b"}]),
    ("works_against_citations", "Never cite sources.", DOCUMENTS, None),
    ("works_against_citations", "If unsure, ask. Use your own knowledge.", DOCUMENTS, None),
    ("refusal_not_told", f"{LISTED} Cite them.", None, None),
    ("citation_not_told", f"{LISTED} Or say you do not know.", None, None),
    ("example_leaks_exactly", f"---\n{shots()}\n---\nHi", SEEN, ONE),
    ("example_leaks_nearly", f"---\n{shots()}\n---\nHi", NEARLY, ONE),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text", "app", "examples"), CASES, ids=[f"{n}-{c[0]}" for n, c in enumerate(CASES)])
def test_each_rule_finds_its_fault_and_says_what_to_do(
    tmp_path: Path, rule: str, text: str, app: AppFacts | None, examples: list[Any] | None
) -> None:
    found = [each for each in look(tmp_path, text, app, examples=examples) if each.rule == rule]
    assert found, "the rule is silent"
    assert all(each.message and each.reason and each.remedy and each.line > 0 for each in found)
    assert all("hunter2" not in each.message for each in found)


VARIANTS = {"prompt.md": "", "p.small_md": "---\nmodels: [small/*]\n---\nShort."}


def test_texts_for_certain_models_are_held_to_the_others(tmp_path: Path) -> None:
    app = AppFacts("helper", targets=["large/m"])
    found = look(tmp_path, f"---\n{PLAN}\n---\n{{{{ plan }}}}", app, p_small_md="x")
    (tmp_path / "p.small.md").write_text("---\nmodels: [small/*]\n---\nShort.")
    found = look(tmp_path, f"---\n{PLAN}\n---\n{{{{ plan }}}}", app)
    told = {each.rule: each for each in found}
    assert "'plan'" in told["variant_lacks_variable"].message
    assert (told["variant_lacks_variable"].file, told["variant_lacks_variable"].line) == ("p.small.md", 4)
    assert "it asks large/m" in told["variant_unreachable"].message
    assert "variant_unreachable" not in {each.rule for each in look(tmp_path, "Hi", AppFacts("h", targets=["small/m"]))}


def test_every_rule_has_a_case_of_its_own() -> None:
    tried = {rule for rule, *_ in CASES} | {"variant_lacks_variable", "variant_unreachable"}
    assert tried == set(rules.names())


SOUND = [
    # Bounded, marked off, and told to be data.
    "---\nvariables: {name: {max_length: 80}, seats: {type: integer}}\n---\nFor <name>{{ name }}</name>, {{ seats }}.",
    "---\nvariables: {order: {type: object, properties: {id: {type: integer}}}}\n---\n{{ order | context('order') }}",
    "---\nvariables: {a: {max_length: 9}}\nformat: json\n---\nThe value is {{ a }}.",
    "---\nvariables: {a: {max_length: 9}}\nformat: markdown\n---\n```\n{{ a }}\n```",
    "---\nvariables: {a: {max_length: 9}}\n---\n{% set b = a %}<x>{{ b }}</x>",
    # What holds at different times is no contradiction.
    "{% if user %}Answer in German.{% else %}Answer in English.{% endif %}",
    "Answer in German if the question is German. Answer in English if it is English.",
    "Always be kind. Never be rude. Do not use tables. Use lists.",
    "Write at most 3 sentences. Write at least 2 sentences.",
    "Use at most 10 words for the title. Write at least 50 words.",
    "Do not answer in Markdown. Never reply in French. Answer in English.",
    # Tags that are spoken of, code that is closed, braces of JSON.
    'Put the result between `<answer>` and `</answer>`. Use <br> for a break.\n```\n{"a": {"b": 1}}\n```',
    "The date is {{ today }}; count from today's date.",
    "{# TODO: shorter #}Be kind.",
]


@pytest.mark.parametrize("text", SOUND)
def test_what_only_looks_like_a_fault_is_let_be(tmp_path: Path, text: str) -> None:
    found = [each for each in look(tmp_path, text) if each.rule != "undescribed_variable"]
    assert found == []


def test_apps_with_documents_and_forms_that_are_told_are_clean(tmp_path: Path) -> None:
    assert look(tmp_path, "Answer from the passages. Do not use your own knowledge.", DOCUMENTS) == []
    assert look(tmp_path, "Give `answer` as JSON, in German.", FORMED) == []
    assert look(tmp_path, "Never cite sources.", AppFacts("chat")) == []


def test_a_finding_names_file_and_line_also_of_a_partial_and_of_an_example(tmp_path: Path) -> None:
    (tmp_path / "prompts" / "partials").mkdir(parents=True)
    (tmp_path / "prompts" / "partials" / "tone.md").write_text("Be kind.\nTODO\n")
    text = f'---\ntitle: x\n{shots()}\n---\n\nHi.\n{{% include "partials/tone.md" %}}\nTBD'
    found = look(tmp_path, text, examples=[{"input": "a", "output": "b"}, {"input": "{{", "output": "c"}])
    places = {(each.rule, each.file, each.line) for each in found}
    assert places == {
        ("placeholder_left", "p.md", 8),
        ("placeholder_left", "prompts/partials/tone.md", 2),
        ("braces_in_examples", "shots.jsonl", 2),
    }


def test_findings_are_written_for_other_tools(tmp_path: Path) -> None:
    found = look(tmp_path, "Be kind, 100%: {app}\nTODO")
    told = sarif(found)["runs"][0]
    assert [each["ruleId"] for each in told["results"]] == ["single_braces", "placeholder_left"]
    assert told["results"][0]["level"] == "error"
    assert told["results"][1]["locations"][0]["physicalLocation"]["region"] == {"startLine": 2}
    lines = github(found).splitlines()
    assert lines[0].startswith("::error file=p.md,line=1,title=single_braces::")
    assert lines[1].startswith("::warning file=p.md,line=2,")
    odd = Finding("r", "warn", "a\nb % c", "", "d", "x,y:z.md", 1)
    assert github([odd]) == "::warning file=x%2Cy%3Az.md,line=1,title=r::a%0Ab %25 c. d\n"
