"""Does a value hold to a JSON Schema, and if not, where not.

Draft 2020-12 without the parts that a model's answer never needs: `unevaluated*` and dynamic references are refused, as
is a reference to another document, since nothing here fetches what a caller's schema names. `format` is a remark, as
the standard has it. Patterns that could take for ever are refused: the text they are tried on is a model's.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from interlock.core.errors import InvalidInput, Misconfigured
from interlock.core.patterns import found_in

__all__ = ["Violation", "check_schema", "first_violation"]

_MAX_DEPTH = 100
_MAX_STEPS = 200_000
_MAX_PATTERN = 500
_MOST_MATCHED = (100_000, 5_000, 500, 150)
"""Longest text that a pattern with so many unbounded repeats is tried on: the time grows with that power."""
_UNKNOWN = ("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef")
_TYPES = ("null", "boolean", "object", "array", "number", "integer", "string")


class Violation(NamedTuple):
    """Where a value does not hold."""

    schema_path: str
    """JSON pointer into the schema, as ``/properties/age/minimum``."""
    value_path: str
    """JSON pointer into the value; empty is the whole."""
    message: str
    """What was expected, without the value itself."""


class _At(NamedTuple):
    """A place: in the schema, in the value, and how deep."""

    schema: str
    value: str
    depth: int

    def into(self, schema_step: str, value_step: str = "") -> _At:
        return _At(self.schema + schema_step, self.value + value_step, self.depth + 1)

    def violation(self, keyword: str, message: str) -> Violation:
        return Violation(self.schema + keyword, self.value, message)


class _Work:
    def __init__(self, root: object) -> None:
        self.root = root
        self.steps = 0

    def step(self, depth: int) -> None:
        self.steps += 1
        if depth > _MAX_DEPTH or self.steps > _MAX_STEPS:
            raise InvalidInput(
                "the schema is too deep, or takes too long to check",
                param="response_format",
                code="schema_unsupported",
            )


# Any in this module: JSON.
def first_violation(schema: Mapping[str, Any], value: Any) -> Violation | None:
    """The first place where `value` does not hold to `schema`, None when it does.

    Raises: InvalidInput (`schema_unsupported`): the schema cannot be checked here.
    """
    return next(_check(_Work(schema), schema, value, _At("", "", 0)), None)


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise InvalidInput naming the place, unless `first_violation` can check values against it."""
    _walk(schema, schema, "", 0, set())


def _walk(root: object, schema: object, path: str, depth: int, seen: set[int]) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise _unsupported(path, "a schema is an object, true or false")
    if depth > _MAX_DEPTH:
        raise _unsupported(path, f"it is nested more than {_MAX_DEPTH} levels deep")
    if id(schema) in seen:
        return
    seen.add(id(schema))
    for name in _UNKNOWN:
        if name in schema:
            raise _unsupported(f"{path}/{name}", "this keyword is not supported")
    _check_shapes(schema, path)
    for pattern, where in _patterns(schema, path):
        if _is_risky(pattern):
            raise _unsupported(where, "this pattern is no regular expression, or could take for ever")
    if "$ref" in schema:
        _walk(root, _resolve(root, schema["$ref"], path), f"{path}/$ref", depth + 1, seen)
    for inner, where in _children(schema, path):
        _walk(root, inner, where, depth + 1, seen)


def _check_shapes(schema: Mapping[str, Any], path: str) -> None:
    """Raise InvalidInput for a keyword whose value is not of the kind that it has."""
    for name, value in schema.items():
        expected = _SHAPES.get(name)
        if expected is not None and not expected[1](value):
            raise _unsupported(f"{path}/{_escaped(name)}", f"expected {expected[0]}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_type_name(value: Any) -> bool:
    return value in _TYPES if isinstance(value, str) else _is_texts(value) and bool(value) and {*value} <= {*_TYPES}


_COUNTS = ("Length", "Items", "Properties", "Contains")
_SHAPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "type": ("the name of a JSON type, or a list of them", _is_type_name),
    "pattern": ("a text", lambda v: isinstance(v, str)),
    "required": ("a list of texts", _is_texts),
    "dependentRequired": (
        "an object of lists of texts",
        lambda v: isinstance(v, Mapping) and all(_is_texts(names) for names in v.values()),
    ),
    "multipleOf": ("a number above 0", lambda v: _is_number(v) and v > 0),
    **{f"{end}{what}": ("a whole number from 0", _is_count) for end in ("min", "max") for what in _COUNTS},
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), ("a number", _is_number)),
    **dict.fromkeys(("enum", "prefixItems"), ("a list", lambda v: isinstance(v, list))),
    **dict.fromkeys(("allOf", "anyOf", "oneOf"), ("a list of schemas", lambda v: isinstance(v, list) and bool(v))),
    **dict.fromkeys(
        ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"),
        ("an object of schemas", lambda v: isinstance(v, Mapping)),
    ),
}


def _patterns(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    if isinstance(schema.get("pattern"), str):
        yield schema["pattern"], f"{path}/pattern"
    for pattern in schema.get("patternProperties", {}):
        yield pattern, f"{path}/patternProperties/{_escaped(pattern)}"


def _children(schema: Mapping[str, Any], path: str) -> Iterator[tuple[object, str]]:
    for name in ("items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else"):
        if name in schema:
            yield schema[name], f"{path}/{name}"
    for name in ("allOf", "anyOf", "oneOf", "prefixItems"):
        for position, inner in enumerate(schema.get(name, ())):
            yield inner, f"{path}/{name}/{position}"
    for name in ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"):
        for key, inner in schema.get(name, {}).items():
            yield inner, f"{path}/{name}/{_escaped(key)}"


def _unsupported(path: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"the JSON Schema cannot be checked at {path or '/'}: {why}",
        param="response_format",
        code="schema_unsupported",
        hint="simplify the schema, or choose a model whose provider enforces schemas",
    )


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _resolve(root: object, reference: object, path: str) -> object:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise _unsupported(f"{path}/$ref", "a reference stays inside its document, as '#/$defs/name'")
    found: Any = root
    for step in reference[2:].split("/") if len(reference) > 2 else []:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, Sequence) and not isinstance(found, str) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            raise _unsupported(f"{path}/$ref", "there is nothing at this reference")
    return found


def _is_risky(pattern: str) -> bool:
    """True for what backtracking may never finish: repeats or choices inside unbounded repeats, many in a row."""
    if len(pattern) > _MAX_PATTERN:
        return True
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return True
    nested = re.search(r"\((?:[^()\\]|\\.)*(?:[*+|]|\{\d+,\}|\()(?:[^()\\]|\\.|\))*\)(?:[*+]|\{\d+,)", pattern)
    return _unbounded(pattern) >= len(_MOST_MATCHED) or nested is not None or bool(re.search(r"\\[1-9]", pattern))


def _unbounded(pattern: str) -> int:
    """Repeats without an upper bound, outside of character classes."""
    return len(re.findall(r"(?<!\\)(?:[*+]|\{\d+,\})", re.sub(r"\[(?:\\.|[^\]])*\]", "x", pattern)))


def _check(work: _Work, schema: Any, value: Any, at: _At) -> Iterator[Violation]:
    work.step(at.depth)
    if isinstance(schema, bool):
        if not schema:
            yield at.violation("", "nothing is allowed here")
        return
    if not isinstance(schema, Mapping):
        raise _unsupported(at.schema, "a schema is an object, true or false")
    if "$ref" in schema:
        target = _resolve(work.root, schema["$ref"], at.schema)
        yield from _check(work, target, value, at.into("/$ref"))
    if "type" in schema:
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if not any(_is_type(value, kind) for kind in kinds):
            yield at.violation("/type", f"expected {' or '.join(kinds)}")
            return
    if "enum" in schema and not any(_equal(value, item) for item in schema["enum"]):
        yield at.violation("/enum", "expected one of the listed values")
    if "const" in schema and not _equal(value, schema["const"]):
        yield at.violation("/const", "expected the one allowed value")
    if isinstance(value, str):
        yield from _check_string(schema, value, at)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _check_number(schema, value, at)
    elif isinstance(value, list):
        yield from _check_array(work, schema, value, at)
    elif isinstance(value, dict):
        yield from _check_object(work, schema, value, at)
    yield from _check_choices(work, schema, value, at)


def _is_type(value: Any, kind: str) -> bool:
    if kind == "integer":
        return not isinstance(value, bool) and (
            isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        )
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    expected = {"null": type(None), "boolean": bool, "object": dict, "array": list, "string": str}
    return isinstance(value, expected.get(kind, ()))


def _equal(one: Any, other: Any) -> bool:
    """JSON equality: 1 is 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return bool(one == other)


def _check_string(schema: Mapping[str, Any], value: str, at: _At) -> Iterator[Violation]:
    if len(value) < schema.get("minLength", 0):
        yield at.violation("/minLength", f"expected at least {schema['minLength']} characters")
    if len(value) > schema.get("maxLength", math.inf):
        yield at.violation("/maxLength", f"expected at most {schema['maxLength']} characters")
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        if _is_risky(pattern):
            raise _unsupported(f"{at.schema}/pattern", "this pattern is no regular expression, or could take for ever")
        most = _MOST_MATCHED[_unbounded(pattern)]
        if len(value) > most:
            yield at.violation("/pattern", f"expected at most {most} characters for this pattern")
        elif not _found(pattern, value, f"{at.schema}/pattern"):
            yield at.violation("/pattern", f"expected to match {pattern!r}")


def _found(pattern: str, text: str, where: str) -> bool:
    try:
        return found_in(pattern, text)
    except Misconfigured as error:
        raise _unsupported(where, "this pattern took too long") from error


def _check_number(schema: Mapping[str, Any], value: float, at: _At) -> Iterator[Violation]:
    checks: tuple[tuple[str, Callable[[float, float], bool], str], ...] = (
        ("minimum", operator.ge, "at least"),
        ("maximum", operator.le, "at most"),
        ("exclusiveMinimum", operator.gt, "more than"),
        ("exclusiveMaximum", operator.lt, "less than"),
    )
    for name, holds, words in checks:
        if name in schema and not holds(value, schema[name]):
            yield at.violation(f"/{name}", f"expected {words} {schema[name]}")
    step = schema.get("multipleOf")
    if step and not _is_multiple(value, step):
        yield at.violation("/multipleOf", f"expected a multiple of {step}")


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    try:
        quotient = value / step
    except OverflowError:
        return False
    return math.isfinite(quotient) and abs(quotient - round(quotient)) <= 1e-9


def _check_array(work: _Work, schema: Mapping[str, Any], value: list[Any], at: _At) -> Iterator[Violation]:
    if len(value) < schema.get("minItems", 0):
        yield at.violation("/minItems", f"expected at least {schema['minItems']} items")
    if len(value) > schema.get("maxItems", math.inf):
        yield at.violation("/maxItems", f"expected at most {schema['maxItems']} items")
    if schema.get("uniqueItems"):
        known = {json.dumps(_normal(item), sort_keys=True) for item in value}
        if len(known) < len(value):
            yield at.violation("/uniqueItems", "expected no item twice")
    prefix = schema.get("prefixItems", [])
    for position, item in enumerate(value):
        if position < len(prefix):
            inner, step = prefix[position], f"/prefixItems/{position}"
        elif "items" in schema:
            inner, step = schema["items"], "/items"
        else:
            continue
        yield from _check(work, inner, item, at.into(step, f"/{position}"))
    if "contains" in schema:
        holding = sum(
            next(_check(work, schema["contains"], item, _At("", "", at.depth + 1)), None) is None for item in value
        )
        if not schema.get("minContains", 1) <= holding <= schema.get("maxContains", math.inf):
            yield at.violation("/contains", "expected other numbers of matching items")


def _normal(value: Any) -> Any:
    """Equal values to equal JSON: 1.0 becomes 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_normal(item) for item in value]
    return {key: _normal(item) for key, item in value.items()} if isinstance(value, dict) else value


def _check_object(work: _Work, schema: Mapping[str, Any], value: dict[str, Any], at: _At) -> Iterator[Violation]:
    for name in schema.get("required", ()):
        if name not in value:
            yield at.violation("/required", f"expected the property {name!r}")
    if len(value) < schema.get("minProperties", 0):
        yield at.violation("/minProperties", f"expected at least {schema['minProperties']} properties")
    if len(value) > schema.get("maxProperties", math.inf):
        yield at.violation("/maxProperties", f"expected at most {schema['maxProperties']} properties")
    for name, others in schema.get("dependentRequired", {}).items():
        for other in others if name in value else ():
            if other not in value:
                yield at.violation(f"/dependentRequired/{_escaped(name)}", f"expected the property {other!r}")
    for name, inner in schema.get("dependentSchemas", {}).items():
        if name in value:
            yield from _check(work, inner, value, at.into(f"/dependentSchemas/{_escaped(name)}"))
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    for name, item in value.items():
        inside = f"/{_escaped(name)}"
        if "propertyNames" in schema:
            yield from _check(work, schema["propertyNames"], name, at.into("/propertyNames", inside))
        matched = name in known
        if matched:
            yield from _check(work, known[name], item, at.into(f"/properties/{_escaped(name)}", inside))
        for pattern, inner in patterns.items():
            if _is_risky(pattern):
                raise _unsupported(f"{at.schema}/patternProperties", "a pattern could take for ever")
            if len(name) <= _MOST_MATCHED[_unbounded(pattern)] and _found(
                pattern, name, f"{at.schema}/patternProperties"
            ):
                matched = True
                yield from _check(work, inner, item, at.into(f"/patternProperties/{_escaped(pattern)}", inside))
        if not matched and "additionalProperties" in schema:
            if schema["additionalProperties"] is False:
                yield at.into("", inside).violation("/additionalProperties", "expected no further property")
            else:
                further = at.into("/additionalProperties", inside)
                yield from _check(work, schema["additionalProperties"], item, further)


def _check_choices(work: _Work, schema: Mapping[str, Any], value: Any, at: _At) -> Iterator[Violation]:
    def holds(inner: object) -> bool:
        return next(_check(work, inner, value, _At("", "", at.depth + 1)), None) is None

    for position, inner in enumerate(schema.get("allOf", ())):
        yield from _check(work, inner, value, at.into(f"/allOf/{position}"))
    if "anyOf" in schema and not any(holds(inner) for inner in schema["anyOf"]):
        yield at.violation("/anyOf", "expected one of the alternatives")
    if "oneOf" in schema and sum(holds(inner) for inner in schema["oneOf"]) != 1:
        yield at.violation("/oneOf", "expected exactly one of the alternatives")
    if "not" in schema and holds(schema["not"]):
        yield at.violation("/not", "expected something else")
    if "if" in schema:
        branch = "then" if holds(schema["if"]) else "else"
        if branch in schema:
            yield from _check(work, schema[branch], value, at.into(f"/{branch}"))
