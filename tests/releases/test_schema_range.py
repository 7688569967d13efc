"""Whether one schema's answers are all read by another one: what is named, what is let be, what cannot be told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.gateway.structured.schema import first_violation
from interlock.releases.schema_range import misfits


def obj(required: list[str] | None = None, /, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields) if required is None else required}


TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
LIST = {"type": "array", "items": TEXT}
NODE: dict[str, Any] = {
    "$defs": {"node": obj(["v"], v=WHOLE, next={"$ref": "#/$defs/node"})},
    "$ref": "#/$defs/node",
}
WIDER_NODE: dict[str, Any] = {
    "$defs": {"node": obj(["v"], v={"type": "number"}, next={"$ref": "#/$defs/node"})},
    "$ref": "#/$defs/node",
}

READ = [
    (obj(a=TEXT), obj(a=TEXT)),
    (obj(a=TEXT, b=WHOLE), obj(a=TEXT)),
    (obj(a=WHOLE), obj(a={"type": "number"})),
    (obj(a={"enum": ["x"]}), obj(a={"enum": ["x", "y"]})),
    (obj(a={"enum": ["x", "y"]}), obj(a=TEXT)),
    (obj(a={"const": 3}), obj(a={"type": "integer", "minimum": 3, "maximum": 3})),
    (obj(a=TEXT), obj([], a=TEXT, b=TEXT)),
    (obj(a=TEXT), {**obj(a=TEXT), "additionalProperties": False}),
    (obj(a={"type": "string", "maxLength": 5}), obj(a={"type": "string", "maxLength": 9})),
    (obj(a={"type": ["string", "null"]}), obj(a={"anyOf": [TEXT, {"type": "null"}]})),
    (obj(a={"anyOf": [TEXT, WHOLE]}), obj(a={"type": ["string", "integer", "null"]})),
    (obj(a={"allOf": [WHOLE, {"minimum": 2}]}), obj(a={"type": "number", "exclusiveMinimum": 1})),
    (obj(a=LIST), obj(a={"type": "array"})),
    (NODE, WIDER_NODE),
    (obj(a=TEXT), {}),
    (obj(a={"type": "string", "pattern": "^x"}), obj(a={"type": "string", "pattern": "^x"})),
    (obj(a={"type": "string", "format": "date"}), obj(a={"type": "string", "format": "email"})),
    (obj(kind={"const": "a"}), {"oneOf": [obj(kind={"const": "a"}), obj(kind={"const": "b"})]}),
    (obj(a={"type": "boolean"}), obj(a={"enum": [True, False]})),
    (obj(a={"type": "array", "prefixItems": [WHOLE], "items": False}), obj(a={"type": "array", "items": WHOLE})),
]

NOT_READ = [
    (obj(a=TEXT), obj(a=TEXT, b=TEXT), "b is gone, and is required"),
    (obj([], a=TEXT), obj(a=TEXT), "a may be left out, and is required"),
    (obj(a=WHOLE), obj(a=TEXT), "a is of type integer, and string is read"),
    (obj(a={"type": "number"}), obj(a=WHOLE), "a is of type number, and integer is read"),
    (obj(a={"type": ["string", "null"]}), obj(a=TEXT), "a is of type null, and string is read"),
    (obj(a={"enum": ["x", "z"]}), obj(a={"enum": ["x", "y"]}), 'a may be "z", which is not read'),
    (obj(a=TEXT), obj(a={"enum": ["x"]}), "a may hold other values than the ones that are read"),
    (obj(a=TEXT, b=TEXT), {**obj(a=TEXT), "additionalProperties": False}, "b is new, and no further fields are read"),
    (obj(a=obj(b=WHOLE)), obj(a=obj(b=TEXT)), "a.b is of type integer, and string is read"),
    (obj(a={**LIST, "items": obj(p=WHOLE)}), obj(a={**LIST, "items": obj(p=TEXT)}), "a[].p is of type"),
    (obj(a={"type": "string"}), obj(a={"type": "string", "maxLength": 9}), "a may be above the maxLength of 9"),
    (obj(a={"type": "integer", "minimum": 0}), obj(a={"minimum": 1}), "a may be below the minimum of 1"),
    (obj(a={"minimum": 1, "type": "number"}), obj(a={"exclusiveMinimum": 1}), "a may be below the minimum of 1"),
    (obj(a=LIST), obj(a={"type": "array", "minItems": 1}), "a may be below the minItems of 1"),
    (obj(a={"anyOf": [TEXT, WHOLE]}), obj(a=TEXT), "a is of type integer"),
    (obj(a=WHOLE), obj(a={"anyOf": [TEXT, {"type": "null"}]}), "is read in none of the ways"),
    (WIDER_NODE, NODE, "v is of type number, and integer is read"),
    ({"type": "object"}, obj([], a=TEXT), "a is of type"),
    ({"type": "string"}, obj(a=TEXT), "the answer is of type string, and object is read"),
    (obj(a={"const": 1}), obj(a={"const": True}), "a may be 1, which is not read"),
]  # fmt: skip

UNDECIDED = [
    (obj(a=TEXT), obj(a={"type": "string", "pattern": "^x"}), "pattern"),
    (obj(a={"type": "string", "pattern": "^y"}), obj(a={"type": "string", "pattern": "^x"}), "pattern"),
    (obj(a=TEXT), {**obj(a=TEXT), "not": obj(b=TEXT)}, "not"),
    (obj([], a=TEXT), {"oneOf": [obj([], a=TEXT), obj([], a=WHOLE)]}, "oneOf"),
    (obj(a=TEXT), obj(a={"$ref": "https://elsewhere/x.json"}), "reference"),
    ({**obj(a=WHOLE), "not": {"required": ["a"]}}, obj(a=TEXT), "of type"),
    ({**obj(a=TEXT), "patternProperties": {"^x": WHOLE}}, obj(a=TEXT), "patterns"),
    (obj(a={"type": "array", "items": [TEXT]}), obj(a=LIST), "reference"),
]


@pytest.mark.parametrize(("written", "read"), READ)
def test_every_answer_is_read(written: dict[str, Any], read: dict[str, Any]) -> None:
    assert misfits(written, read) == []


@pytest.mark.parametrize(("written", "read", "said"), NOT_READ)
def test_what_is_not_read_is_named(written: dict[str, Any], read: dict[str, Any], said: str) -> None:
    found = misfits(written, read)
    assert any(f"{each.field} {each.why}".startswith(said) or said in each.why for each in found), found
    assert all(each.certain for each in found)


@pytest.mark.parametrize(("written", "read", "said"), UNDECIDED)
def test_what_cannot_be_told_is_not_passed_and_not_claimed(
    written: dict[str, Any], read: dict[str, Any], said: str
) -> None:
    found = misfits(written, read)
    assert any(said in each.why for each in found), found
    assert not any(each.certain for each in found)


def test_schemas_that_are_too_deep_are_given_up() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        deep = {"type": "array", "items": deep}
    assert [(each.field, each.certain) for each in misfits(deep, {**deep, "title": "x"})] == [("the answer", False)]


SCALARS = st.sampled_from([None, True, False, 0, 1, 2, 5, 1.5, "", "x", "y", "long text"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
KINDS = st.lists(st.sampled_from(["string", "null", "object", "array"]), min_size=1, max_size=3, unique=True)
LOW, HIGH = st.integers(0, 3), st.integers(1, 9)
PLAIN = st.one_of(
    st.sampled_from([True, {}, {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "null"}]),
    st.builds(lambda kinds: {"type": kinds}, KINDS),
    st.builds(lambda low, high: {"type": "integer", "minimum": low, "maximum": high}, LOW, HIGH),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low}, st.integers(-1, 3)),
    st.builds(lambda low, high: {"type": "string", "minLength": low, "maxLength": high}, LOW, HIGH),
    st.builds(lambda values: {"enum": values}, st.lists(SCALARS, min_size=1, max_size=3)),
    st.builds(lambda value: {"const": value}, VALUES),
    st.just({"type": "string", "pattern": "^x"}),
)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    required = st.lists(st.sampled_from("abc"), max_size=2, unique=True)
    more = st.sampled_from([{}, {"additionalProperties": False}, {"additionalProperties": {"type": "string"}}])
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda f, r, m: {"type": "object", "properties": f, "required": r, **m}, fields, required, more),
        st.builds(lambda i, n: {"type": "array", "items": i, "minItems": n}, inner, st.integers(0, 2)),
        st.builds(lambda i, j: {"type": "array", "prefixItems": [i], "items": j}, inner, inner),
        st.builds(lambda name, ways: {name: ways}, st.sampled_from(["anyOf", "oneOf", "allOf"]), several),
        st.builds(lambda a, ways: {**(a if isinstance(a, dict) else {}), "anyOf": ways}, inner, several),
    )


SCHEMAS = st.recursive(PLAIN, _objects, max_leaves=5).filter(lambda schema: isinstance(schema, dict))


def _closed(schema: Any) -> Any:
    """The written schema as it is taken: objects that name fields hold no others."""
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for key, each in schema.items():
        if key == "properties":
            made[key] = {name: _closed(inner) for name, inner in each.items()}
        elif key in {"anyOf", "oneOf", "allOf", "prefixItems"}:
            made[key] = [_closed(inner) for inner in each]
        elif key == "items":
            made[key] = _closed(each)
        else:
            made[key] = each
    if made.get("properties") and "additionalProperties" not in made:
        others = dict.fromkeys(made.get("required", ()), True)
        made["properties"] = {**others, **made["properties"]}
        made["additionalProperties"] = False
    return made


@settings(max_examples=600, deadline=None)
@given(SCHEMAS, SCHEMAS, st.lists(VALUES, min_size=8, max_size=20))
def test_whatever_is_passed_is_read(written: dict[str, Any], read: dict[str, Any], values: list[Any]) -> None:
    """The promise: where nothing is found, every answer in the written form is in the read one."""
    if misfits(written, read):
        return
    closed = _closed(written)
    for value in values:
        if first_violation(closed, value) is None:
            assert first_violation(read, value) is None, (value, written, read)


@settings(max_examples=200, deadline=None)
@given(SCHEMAS)
def test_a_schema_reads_itself(schema: dict[str, Any]) -> None:
    assert misfits(schema, schema) == []
