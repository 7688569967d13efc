"""Rules of flags are read in order, and wrong ones are refused by name."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.releases.flags.evaluating import evaluate
from interlock.releases.flags.types import FlagSpec


def spec(**said: Any) -> FlagSpec:
    given: dict[str, Any] = {"variants": {"a": 1, "b": 2}, "default": "a"}
    return FlagSpec.model_validate({**given, **said})


def test_the_first_rule_that_fits_decides() -> None:
    rules = [
        {"when": {"plan": "pro", "country": ["de", "at"]}, "variant": "b"},
        {"when": {"plan": "pro"}, "variant": "a"},
    ]
    flag = spec(rules=rules)
    assert evaluate("f", flag, {"plan": "pro", "country": "at"}, {}).variant == "b"
    assert evaluate("f", flag, {"plan": "pro", "country": "fr"}, {}).variant == "a"
    assert evaluate("f", flag, {"plan": "free"}, {}).reason == "DEFAULT"


def test_true_is_not_one() -> None:
    flag = spec(rules=[{"when": {"beta": True}, "variant": "b"}])
    assert evaluate("f", flag, {"beta": True}, {}).variant == "b"
    assert evaluate("f", flag, {"beta": 1}, {}).variant == "a"


def test_the_arm_of_an_experiment_chooses_the_variant_of_its_name() -> None:
    flag = spec(rules=[{"arm_of": "helper"}])
    assert evaluate("f", flag, {}, {"helper": "b"}).variant == "b"
    assert evaluate("f", flag, {}, {"helper": None}).reason == "DEFAULT"
    assert evaluate("f", flag, {}, {"helper": "other"}).reason == "DEFAULT"


@given(st.integers(0, 10_000))
def test_a_larger_share_only_adds_units(n: int) -> None:
    few, many = (spec(rules=[{"split": {"b": share, "a": 100 - share}}]) for share in (10, 40))
    unit = {"targetingKey": f"u{n}"}
    if evaluate("f", few, unit, {}).variant == "b":
        assert evaluate("f", many, unit, {}).variant == "b"


def test_two_flags_split_the_same_units_differently() -> None:
    flag = spec(rules=[{"split": {"a": 1, "b": 1}}])
    pairs = Counter(
        (evaluate("f", flag, unit, {}).variant, evaluate("g", flag, unit, {}).variant)
        for unit in ({"targetingKey": f"u{n}"} for n in range(2000))
    )
    assert all(400 <= count <= 600 for count in pairs.values())
    assert len(pairs) == 4


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"default": "c"}, "no variant 'c'"),
        ({"variants": {"a": 1, "b": "two"}}, "of one type"),
        ({"rules": [{"variant": "c"}]}, "no variant 'c'"),
        ({"rules": [{"when": {"plan": "pro"}, "variant": ""}]}, "no variant ''"),
        ({"variants": {"a": 1.0, "b": float("nan")}}, "the variant 'b' holds a number that is not finite"),
        ({"variants": {"a": {"x": [1, {"y": float("inf")}]}}}, "the variant 'a' holds a number that is not finite"),
        ({"rules": [{"split": {"a": float("inf")}}]}, "finite number"),
        ({"rules": [{"split": {"a": 0}}]}, "not all 0"),
        ({"rules": [{"split": {"a": -1}}]}, "greater than or equal to 0"),
        ({"rules": [{"when": {"x": "y"}}]}, "one of variant, split and arm_of"),
        ({"rules": [{"variant": "a", "arm_of": "helper"}]}, "one of variant, split and arm_of"),
        ({"rules": [{"arm_of": "helper@dev"}]}, "pattern"),
    ],
)
def test_wrong_flags_are_refused(said: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        spec(**said)
