"""Values that callers pass with a request, against what the prompt declares."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from pydantic import JsonValue

from interlock.core.errors import InvalidInput
from interlock.core.yaml_text import YamlFault, read_yaml
from interlock.prompts.types import VariableSpec

__all__ = ["FIELD", "check_values", "value_from_text"]

FIELD = "interlock.variables"
"""Where callers put them."""
_MOST_CHARACTERS = 20_000
_MOST_ITEMS = 1000
_MOST_OBJECT_BYTES = 65_536
_DEEPEST = 8


def check_values(declared: Mapping[str, VariableSpec], given: Mapping[str, object]) -> dict[str, JsonValue]:
    """Every declared variable with its value: the caller's, its default, or None where it may be left out.

    Raises: InvalidInput naming the variable: it is not declared, missing, of another type, too long or out of bounds.
        Values never stand in the message.
    """
    for name in given:
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise InvalidInput(
                f"the prompt declares no variable {name[:64]!r}",
                param=f"{FIELD}.{name[:64]}",
                code="unknown_variable",
                hint=f"its variables: {known}",
            )
    found: dict[str, JsonValue] = {}
    for name, spec in declared.items():
        value = given.get(name)
        if value is not None:
            found[name] = _checked(spec, value, f"{FIELD}.{name}", 0)
        elif spec.is_required:
            raise InvalidInput(
                f"the variable {name!r} is missing",
                param=f"{FIELD}.{name}",
                code="missing_variable",
                hint=f"send {_example(name)} with the request" + (f": {spec.description}" if spec.description else ""),
            )
        else:
            found[name] = spec.default
    return found


def _example(name: str) -> str:
    return '"interlock": {"variables": {' + json.dumps(name) + ": …}}"


def _wrong(where: str, what: str) -> InvalidInput:
    name = where.removeprefix(f"{FIELD}.")
    return InvalidInput(f"the variable {name!r} {what}", param=where, code="wrong_variable")


def _checked(spec: VariableSpec, value: object, where: str, depth: int) -> JsonValue:
    match spec.type:
        case "string":
            return _string(spec, value, where)
        case "enum":
            if not isinstance(value, str) or value not in spec.values:
                raise _wrong(where, f"is one of {', '.join(map(repr, spec.values))[:400]}")
            return value
        case "boolean":
            if not isinstance(value, bool):
                raise _wrong(where, "is true or false")
            return value
        case "integer" | "number":
            return _number(spec, value, where)
        case "list":
            return _list(spec, value, where, depth)
        case "object":
            return _object(spec, value, where, depth)


def _string(spec: VariableSpec, value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "is a text")
    most = spec.max_length or _MOST_CHARACTERS
    if len(value) > most:
        raise _wrong(where, f"has at most {most:,} characters, not {len(value):,}")
    if len(value) < (spec.min_length or 0):
        raise _wrong(where, f"has at least {spec.min_length} characters, not {len(value)}")
    return value


def _number(spec: VariableSpec, value: object, where: str) -> int | float:
    whole = spec.type == "integer"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(where, "is a whole number" if whole else "is a number")
    if isinstance(value, float):
        if not math.isfinite(value) or (whole and not value.is_integer()):
            raise _wrong(where, "is a whole number" if whole else "is a finite number")
        value = int(value) if whole else value
    if spec.minimum is not None and value < spec.minimum:
        raise _wrong(where, f"is at least {spec.minimum:g}")
    if spec.maximum is not None and value > spec.maximum:
        raise _wrong(where, f"is at most {spec.maximum:g}")
    return value


def _list(spec: VariableSpec, value: object, where: str, depth: int) -> list[JsonValue]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, "is a list")
    most = spec.max_items or _MOST_ITEMS
    if len(value) > most:
        raise _wrong(where, f"has at most {most:,} entries, not {len(value):,}")
    if spec.items is None:
        return [_any(each, f"{where}.{place}", depth + 1) for place, each in enumerate(value)]
    return [_checked(spec.items, each, f"{where}.{place}", depth + 1) for place, each in enumerate(value)]


def _object(spec: VariableSpec, value: object, where: str, depth: int) -> dict[str, JsonValue]:
    if not isinstance(value, Mapping) or any(not isinstance(key, str) for key in value):
        raise _wrong(where, "is an object")
    if not spec.properties:
        found = {key: _any(each, f"{where}.{key[:64]}", depth + 1) for key, each in value.items()}
    else:
        for key in value:
            if key not in spec.properties:
                raise _wrong(f"{where}.{key[:64]}", f"is not declared; fields: {', '.join(spec.properties)[:400]}")
        found = {}
        for key, part in spec.properties.items():
            if (inner := value.get(key)) is not None:
                found[key] = _checked(part, inner, f"{where}.{key}", depth + 1)
            elif part.is_required:
                raise _wrong(f"{where}.{key}", "is missing")
            else:
                found[key] = part.default
    if len(json.dumps(found)) > _MOST_OBJECT_BYTES:
        raise _wrong(where, f"has at most {_MOST_OBJECT_BYTES:,} bytes as JSON")
    return found


def _any(value: object, where: str, depth: int) -> JsonValue:
    if depth > _DEEPEST:
        raise _wrong(where, f"is nested more than {_DEEPEST} deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _string(VariableSpec(), value, where)
    if isinstance(value, int | float):
        return _number(VariableSpec(type="number"), value, where)
    if isinstance(value, list | tuple):
        return _list(VariableSpec(type="list"), value, where, depth)
    return _object(VariableSpec(type="object"), value, where, depth)


def value_from_text(spec: VariableSpec, text: str) -> object:
    """A value as people type it: text as it stands for a string or an enum, YAML for every other type.

    Raises: InvalidInput: it is no YAML.
    """
    if spec.type in {"string", "enum"}:
        return text
    try:
        value: object = read_yaml(text)
    except YamlFault as error:
        raise InvalidInput("the value is not YAML: quote it", param=FIELD) from error
    return value
