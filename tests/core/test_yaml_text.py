"""YAML of people's hands: every fault is one kind of error."""

from __future__ import annotations

import contextlib
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.yaml_text import YamlFault, read_yaml


def test_plain_values_and_merges_are_read():
    assert read_yaml("a: 1\nb: [x, 2026-11-22]\n") == {"a": 1, "b": ["x", datetime.date(2026, 11, 22)]}
    assert read_yaml("base: &b {x: 1}\nmine: {<<: *b, y: 2}\n")["mine"] == {"x": 1, "y": 2}
    assert read_yaml("") is None


@pytest.mark.parametrize(
    "text",
    [
        "a: 2020-02-30",
        "a: 1\na: 2",
        "x: {b: 1, c: 2, b: 3}",
        "a: [",
        "a: !!python/object/apply:os.system [true]",
        "[" * 5000,
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{c}: &{c} [{','.join(['*' + p] * 10)}]\n" for p, c in zip("abcdef", "bcdefg", strict=True)),
    ],
    ids=["no such day", "a name twice", "twice inside", "open", "an object", "deep", "aliases of aliases"],
)
def test_what_cannot_be_read_is_a_yaml_fault(text):
    with pytest.raises(YamlFault):
        read_yaml(text)


@given(st.text(max_size=200))
def test_any_text_is_a_value_or_a_yaml_fault(text):
    with contextlib.suppress(YamlFault):
        read_yaml(text)
