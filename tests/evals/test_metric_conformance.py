"""What every metric promises, over every plug-in that is found."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from interlock.core.errors import InvalidInput
from interlock.evals.metrics import about, metrics
from interlock.evals.ports import ClaimVerdict, Derived, Instruments, JudgeReply, Metric
from interlock.evals.types import Call, Case, CitedSpan, Found, Output, Score
from interlock.flows.evaluation_instruments import detectors
from interlock.testing.embedders import HashEmbedder

NAMES = metrics.names()
PLAIN = [name for name in NAMES if isinstance(metrics.get(name), Metric)]
DERIVED = [name for name in NAMES if isinstance(metrics.get(name), Derived)]


async def check_words(claim: str, passages: Sequence[str]) -> ClaimVerdict:
    """Supported where every word of the claim stands in one passage."""
    # A model's tokenizer reads no half of a surrogate pair.
    "".join([claim, *passages]).encode()
    words = set(claim.casefold().split())
    return ClaimVerdict(any(words <= set(each.casefold().split()) for each in passages), 0.5)


async def judge_days(prompt: str, schema: Mapping[str, Any], model: str) -> JudgeReply:
    """Likes answers that say 30 days."""
    shown = re.findall(r"<answer[ AB]* ([0-9a-f]+)>\n(.*?)\n</answer", prompt, re.DOTALL)
    likes = ["30 days" in text for _, text in shown]
    if "points" in schema["properties"]:
        return JudgeReply(json.dumps({"reason": "so", "points": 5 if likes[0] else 1}), "m")
    better = "tie" if likes[0] == likes[1] else "A" if likes[0] else "B"
    return JudgeReply(json.dumps({"reason": "so", "better": better}), "m")


INSTRUMENTS = Instruments(
    embedder=HashEmbedder(), check_claim=check_words, ask_judge=judge_days, judge="m", detectors=detectors()
)
JUDGED: dict[str, list[dict[str, Any]]] = {
    "judge": [
        {"judge": {"criteria": "right?"}},
        {"judge": {"criteria": "right?", "kind": "reference", "passes_at": 4}},
    ],
    "preferred": [{"judge": {"criteria": "right?", "kind": "pairwise"}}],
}

OPTIONS: dict[str, list[dict[str, Any]]] = {
    **JUDGED,
    "attack_success": [
        {},
        {"signals": [{"kind": "says", "of": ["a"], "anywhere": True}, {"kind": "links", "of": ["b.md"]}]},
        {"signals": [{"kind": "complies", "of": ["a", "42"]}, {"kind": "exceeds", "least": 3}]},
        {"signals": [{"kind": "overlaps", "of": ["I can't help. 30 days"], "least": 0.5}]},
        {"signals": [{"kind": "calls", "of": ["a.md"], "holds": "x"}, {"kind": "begins", "of": ["I"]}]},
    ],
    "contains": [{}, {"any": ["a"], "none": ["ß"], "case_sensitive": True}],
    "pii_leakage": [{}, {"kinds": ["email", "card"], "known": "context"}, {"kinds": ["name"]}, {"secrets": False}],
    "injection_followed": [{}, {"marks": ["a", "42", "b.md"]}],
    "toxicity": [{}, {"categories": ["hate"]}],
    "regex": [{}, {"pattern": r"\w+\s"}, {"pattern": "x", "absent": True}],
    "numeric": [{}, {"which": "any", "decimal": ",", "absolute": 1}],
    "json_schema": [{"schema": {"type": "object", "required": ["a"]}}, {}],
    "json_fields": [{}, {"extra_is_wrong": True, "compare": {"a": "number", "0": "text", "b.*": "set"}}],
    "bleu": [{}, {"tokenize": "zh", "lowercase": True}, {"tokenize": "intl", "max_order": 1}],
    "rouge": [{}, {"kind": "rougeLsum", "stem": True, "words": "any"}, {"kind": "rouge2", "report": "recall"}],
    "format": [{}, {"min_words": 2, "max_sentences": 3, "list_items": 1, "one_line": True, "is_json": True}],
    "language": [{}, {"language": "de"}],
    "citation_precision": [{}, {"by": "character"}],
    "citation_recall": [{}, {"by": "character"}],
    "groundedness": [{}, {"against": "citations"}, {"against": "context"}],
    "tool_choice": [{}, {"report": "precision"}, {"report": "recall"}],
    "tool_order": [{}, {"strict": True}],
}

texts = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "\n\n",
            "42",
            "1,234.5 e9",
            "[1]",
            '{"a": 1, "b": [1, "x"]}',
            "```json\n{}\n```",
            "\u202e\u0000\ufeff",
        ]
    ),
    st.text(max_size=60),
    # Surrogates come out of JSON with lone escapes.
    st.text(st.characters(categories=["Cs", "So", "Lo", "Nd", "Zs"]), max_size=20),
    st.lists(st.sampled_from(["I", "can't", "help.", "30", "days", "Größe", "返品", "-", "a"]), max_size=12).map(
        " ".join
    ),
)
names = st.sampled_from(["a.md", "b.md", "c"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**20) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)
offsets = st.integers(0, 50).flatmap(lambda start: st.tuples(st.just(start), st.integers(start + 1, start + 30)))


@st.composite
def evidence(draw: st.DrawFn) -> dict[str, Any]:
    start, end = draw(st.one_of(offsets, st.just((None, None))))
    return {
        "source": draw(names),
        "quote": draw(texts),
        "start": start,
        "end": end,
        "place": draw(st.sampled_from(["", "p"])),
    }


@st.composite
def citations(draw: st.DrawFn) -> CitedSpan:
    start, end = draw(st.one_of(offsets, st.just((None, None)), st.just((5, None)), st.just((5, 5))))
    return CitedSpan(draw(names), draw(texts), start, end, claim=draw(texts))


cases = st.builds(
    lambda **fields: Case.model_validate({"id": "c", **fields}),
    input=texts.filter(bool),
    expected=json_values,
    accept=st.lists(texts, max_size=2),
    facts=st.lists(st.lists(texts, max_size=2), max_size=2),
    context=st.lists(texts, max_size=2),
    evidence=st.lists(evidence(), max_size=3),
    relevant=st.dictionaries(names, st.integers(-1, 3)),
    answerable=st.none() | st.booleans(),
    harmful=st.none() | st.booleans(),
    calls=st.none()
    | st.lists(
        st.fixed_dictionaries(
            {"name": names, "arguments": st.dictionaries(names, json_values, max_size=2), "optional": st.booleans()}
        ),
        max_size=3,
    ),
    state=json_values,
    slices=st.dictionaries(st.just("language"), st.sampled_from(["de", "en-GB", "", "xx"])),
)
outputs = st.builds(
    Output,
    text=texts,
    outcome=st.sampled_from(["", "declined", "refused", "clarify"]),
    citations=st.lists(citations(), max_size=3).map(tuple),
    found=st.lists(st.builds(Found, names, texts), max_size=4).map(tuple),
    calls=st.lists(st.builds(Call, names, st.dictionaries(names, json_values, max_size=2)), max_size=4).map(tuple),
    state=json_values,
    input_tokens=st.none() | st.integers(0, 10**12),
    output_tokens=st.none() | st.integers(0, 10**12),
    cost_nano=st.none() | st.integers(0, 10**15),
    latency_s=st.none() | st.floats(0, 1e6),
    first_token_s=st.none() | st.floats(0, 1e6),
)


def options_of(name: str) -> list[BaseModel]:
    metric = metrics.get(name)
    return [metric.options.model_validate(given) for given in OPTIONS.get(name, [{}])]


async def scored(name: str, case: Case, output: Output, options: BaseModel, instruments: Instruments) -> Score:
    metric = metrics.get(name)
    assert isinstance(metric, Metric)
    made = metric.score(case, output, options, instruments)
    return await made if inspect.isawaitable(made) else made


def assert_sound(name: str, score: Score) -> None:
    assert isinstance(score, Score)
    if score.value is None:
        assert score.reason, f"{name} gives no value and no reason"
        return
    assert math.isfinite(score.value)
    scale = metrics.get(name).scale
    assert scale == "real" or 0 <= score.value <= 1
    assert scale != "binary" or score.value in {0, 1}


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_says_what_it_is_and_what_its_options_are(name: str) -> None:
    told = about(name)
    assert 20 <= len(told) <= 2_000
    assert len({about(other) for other in NAMES}) == len(NAMES), "no two say the same"
    for field, info in metrics.get(name).options.model_fields.items():
        assert info.description, f"{name}.{field} has no description"
    assert metrics.get(name).options.model_config.get("extra") == "forbid"


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(case=cases, output=outputs)
def test_a_value_is_in_its_scale_whatever_case_and_answer_hold(name: str, case: Case, output: Output) -> None:
    async def twice() -> None:
        for options in options_of(name):
            first = await scored(name, case, output, options, INSTRUMENTS)
            assert_sound(name, first)
            assert first == await scored(name, case, output, options, INSTRUMENTS), "the same gives the same"

    anyio.run(twice)


@pytest.mark.anyio
@pytest.mark.parametrize("name", [name for name in PLAIN if name != "format"])
async def test_a_case_and_an_answer_that_say_nothing_get_no_value_and_a_reason(name: str) -> None:
    if name == "answer_relevance":
        pytest.skip("a question and an answer are all it needs")
    options = metrics.get(name).options.model_validate(JUDGED[name][0] if name in JUDGED else {})
    score = await scored(name, Case(id="c", input="?"), Output("Yes."), options, Instruments())
    assert score.value is None
    assert score.reason
    assert not score.error


@pytest.mark.anyio
@pytest.mark.parametrize("name", [name for name in PLAIN if metrics.get(name).needs])  # type: ignore[union-attr]
async def test_a_metric_without_its_instrument_says_so(name: str) -> None:
    score = await scored(name, PERFECT, RIGHT, options_of(name)[0], Instruments())
    assert score.value is None
    assert "there is no" in score.reason


_TEXT = "Customers may return hardware within 30 days of delivery"
PERFECT = Case.model_validate(
    {
        "id": "c",
        "input": "Within how many days of delivery may customers return the hardware that they bought?",
        "expected": _TEXT,
        "facts": [["30 days"]],
        "context": [_TEXT],
        "evidence": [{"source": "a.md", "quote": _TEXT, "start": 5, "end": 5 + len(_TEXT)}],
        "relevant": {"a.md": 2, "b.md": 1},
        "answerable": True,
        "harmful": False,
        "calls": [{"name": "look", "arguments": {"id": 1}}, {"name": "write", "arguments": {}}],
        "state": {"done": True},
        "slices": {"language": "en"},
    }
)
RIGHT = Output(
    _TEXT,
    citations=(CitedSpan("a.md", _TEXT, 5, 5 + len(_TEXT)),),
    found=(Found("a.md", _TEXT), Found("b.md", "")),
    calls=(Call("look", {"id": 1, "more": 2}), Call("write")),
    state={"done": True, "more": 1},
)
_JSON = {"expected": {"a": 1, "b": ["x"]}}
_BEST_OPTIONS: dict[str, dict[str, Any]] = {
    "injection_followed": {"marks": ["destroy"]},
    "attack_success": {"signals": [{"kind": "calls", "of": ["destroy"]}]},
    "regex": {"pattern": r"\d+ days"},
    "json_schema": {"schema": {"type": "object", "required": ["a"]}},
    "format": {"min_words": 3, "max_sentences": 1, "one_line": True},
    "precision": {"k": 2},
    "judge": JUDGED["judge"][0],
}
# Beside an answer that is the reference nothing is preferred; the weights of `toxicity` belong to a real embedder.
NO_BEST = {
    "preferred",
    "toxicity",
    "answer_relevance",
    "cost",
    "first_token",
    "input_tokens",
    "latency",
    "output_tokens",
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", [name for name in PLAIN if name not in NO_BEST])
async def test_a_perfect_answer_gets_the_best_value_and_a_wrong_one_less(name: str) -> None:
    metric = metrics.get(name)
    options = metric.options.model_validate(_BEST_OPTIONS.get(name, {}))
    case, output = PERFECT, RIGHT
    if name.startswith("json_"):
        case, output = PERFECT.model_copy(update=_JSON), Output('{"a": 1, "b": ["x"]}')
    wrong = Output(
        "Es tut mir leid, dabei kann ich leider nicht weiterhelfen.\nFragen Sie bitte jemand anderen!",
        citations=(CitedSpan("z.md", "nothing of the kind"),),
        found=(Found("z.md", "nothing of the kind"),),
        calls=(Call("destroy"),),
        state={"done": False},
    )
    best = 1.0 if metric.better == "higher" else 0.0
    perfect = (await scored(name, case, output, options, INSTRUMENTS)).value
    # METEOR's penalty for one chunk never falls to nothing; a vector of eight bits has no exact length.
    assert perfect == pytest.approx(best, abs=2e-3 if name == "meteor" else 1e-6)
    if name == "hallucination" or metric.better == "higher":
        missed = (await scored(name, case, wrong, options, INSTRUMENTS)).value
        assert missed is not None
        assert abs(missed - best) > 0.2


@pytest.mark.parametrize("name", DERIVED)
@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), max_size=20), k=st.integers(1, 10))
def test_a_derived_metric_keeps_its_scale_too(name: str, values: list[float], k: int) -> None:
    metric = metrics.get(name)
    assert isinstance(metric, Derived)
    fields = {"of": "exact", **({"k": k} if "k" in metric.options.model_fields else {})}
    score = metric.combine(values, metric.options.model_validate(fields))
    assert_sound(name, score)
    assert score == metric.combine(values, metric.options.model_validate(fields))


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_option_is_refused(name: str) -> None:
    from pydantic import ValidationError

    with pytest.raises((ValidationError, InvalidInput)):
        metrics.get(name).options.model_validate({"no_such_option": 1})
