"""Can whoever reads answers by one JSON Schema read every answer that another one allows? Pure.

Compared are `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `items`, `prefixItems`,
`minItems`, `maxItems`, `minLength`, `maxLength`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `anyOf`,
`oneOf`, `allOf` and references inside the schema. `pattern`, `multipleOf`, `uniqueItems`, `patternProperties`,
`propertyNames`, `contains`, `not`, `if` and `dependent…` are only held to be the same; where they are not, the answer
is *cannot be told*. `format` and what only describes is left out, as the standard has it. An object is taken to hold
the fields that its schema names, and others only where `additionalProperties` is a schema of its own: models are not
asked for more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Misfit", "misfits"]

# Any in this module: JSON Schemas and JSON values.
Schema = Mapping[str, Any]

_DEEPEST = 64
_MOST_STEPS = 20_000
_MOST_MISFITS = 50
_TYPES = ("null", "boolean", "object", "array", "number", "integer", "string")
_OPAQUE = (
    "pattern",
    "multipleOf",
    "uniqueItems",
    "patternProperties",
    "propertyNames",
    "contains",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
    "$recursiveRef",
)
"""Keywords that are not looked into."""
_LOWER = (("minimum", "exclusiveMinimum"), ("minLength", ""), ("minItems", ""))
_UPPER = (("maximum", "exclusiveMaximum"), ("maxLength", ""), ("maxItems", ""))
_OF_TYPE = {
    "minimum": ("number", "integer"),
    "maximum": ("number", "integer"),
    "minLength": ("string",),
    "maxLength": ("string",),
    "minItems": ("array",),
    "maxItems": ("array",),
}


class Misfit(NamedTuple):
    """A place where the reader may be given what it does not read."""

    field: str
    """``order.lines[].price``; ``the answer`` for the whole."""
    why: str
    certain: bool
    """False: it cannot be told."""


@dataclass(slots=True)
class _Work:
    written: object
    read: object
    steps: int = 0
    assumed: set[tuple[int, int]] = field(default_factory=set)


def misfits(written: Schema, read: Schema) -> Sequence[Misfit]:
    """What of the answers that `written` allows cannot be read by `read`; nothing where all can.

    Args:
        written: schema of the answers.
        read: schema of what is read.

    Every answer is read where nothing is found. What is `certain` stands for an answer that would not be.
    """
    if json.dumps(written, sort_keys=True) == json.dumps(read, sort_keys=True):
        return []
    work = _Work(written, read)
    try:
        found = dict.fromkeys(_first(_within(work, written, read, (), 0)))
    except _TooMuch:
        return [Misfit("the answer", "the schemas are too large or too deep to be compared", False)]
    return list(found)


class _TooMuch(Exception):
    pass


def _first(found: Iterator[Misfit]) -> Iterator[Misfit]:
    for number, each in enumerate(found):
        if number == _MOST_MISFITS:
            return
        yield each


def _named(path: Sequence[str]) -> str:
    return "".join(step if step.startswith("[") else f".{step}" for step in path).lstrip(".") or "the answer"


def _within(work: _Work, written: object, read: object, path: tuple[str, ...], depth: int) -> Iterator[Misfit]:
    """Misfits of a written schema against a read one at `path`."""
    work.steps += 1
    if work.steps > _MOST_STEPS or depth > _DEEPEST:
        raise _TooMuch
    w, r = _resolved(work.written, written), _resolved(work.read, read)
    if w is None or r is None:
        yield Misfit(_named(path), "a reference leads nowhere, or outside the schema", False)
        return
    if r is True or r == {} or w is False:
        return
    if r is False:
        yield Misfit(_named(path), "is not read at all", True)
        return
    if isinstance(w, Mapping) and isinstance(r, Mapping):
        pair = (id(w), id(r))
        if pair in work.assumed:
            # A schema that holds itself: what is looked at already is taken to fit.
            return
        work.assumed.add(pair)
        try:
            yield from _fits(work, w, r, path, depth)
        finally:
            work.assumed.discard(pair)
        return
    yield from _fits(work, {}, r if isinstance(r, Mapping) else {}, path, depth)


def _fits(work: _Work, w: Schema, r: Schema, path: tuple[str, ...], depth: int) -> Iterator[Misfit]:
    for name in ("anyOf", "oneOf"):
        if isinstance(w.get(name), list):
            # Each way of writing has to be read, with what holds beside it.
            beside = {key: value for key, value in w.items() if key != name}
            for branch in w[name]:
                yield from _within(work, _both(work.written, beside, branch), r, path, depth + 1)
            return
    if isinstance(w.get("allOf"), list):
        whole: Schema = {key: value for key, value in w.items() if key != "allOf"}
        for branch in w["allOf"]:
            whole = _both(work.written, whole, branch)
        yield from _within(work, whole, r, path, depth + 1)
        return
    if isinstance(r.get("allOf"), list):
        for branch in [{key: value for key, value in r.items() if key != "allOf"}, *r["allOf"]]:
            yield from _within(work, w, branch, path, depth + 1)
        return
    for name in ("anyOf", "oneOf"):
        if isinstance(r.get(name), list):
            yield from _of_several(work, w, r, path, depth, name=name)
            return
    yield from _plain(work, w, r, path, depth)


def _of_several(work: _Work, w: Schema, r: Schema, path: tuple[str, ...], depth: int, *, name: str) -> Iterator[Misfit]:
    rest = {key: value for key, value in r.items() if key != name}
    if rest:
        yield from _within(work, w, rest, path, depth + 1)
    kinds = _kinds(w)
    if "enum" not in w and "const" not in w and len(kinds) > 1:
        # Several types may be read by several branches.
        for kind in kinds:
            yield from _within(work, {**w, "type": kind}, {name: r[name]}, path, depth + 1)
        return
    if "enum" in w and len(w["enum"]) > 1:
        for value in w["enum"]:
            yield from _within(work, {"const": value}, {name: r[name]}, path, depth + 1)
        return
    tried = [list(_within(work, w, branch, path, depth + 1)) for branch in r[name]]
    fitting = sum(not each for each in tried)
    if fitting and (name == "anyOf" or len(tried) == 1):
        return
    if fitting == 1 and all(_apart(w, each, path) for each in tried if each):
        return
    if not fitting and all(any(each.certain for each in found) for found in tried):
        told = min(tried, key=len)[0]
        yield Misfit(told.field, f"is read in none of the ways that are known: {told.why}", True)
        return
    yield Misfit(_named(path), f"whether one way of `{name}` reads it cannot be told", False)


def _apart(w: Schema, found: Sequence[Misfit], path: tuple[str, ...]) -> bool:
    """Nothing of what is written is read by this branch too: another type, or another value of a field of every one."""
    fields = _mapping(w, "properties")
    always = [name for name in w.get("required") or () if "const" in _mapping(fields, name)]
    telling = {_named((*path, str(name))) for name in always}
    of_type = _named(path) if len(_kinds(w)) == 1 else None
    return any(
        each.certain and ((each.field == of_type and each.why.startswith("is of type")) or (each.field in telling))
        for each in found
    )


def _both(root: object, one: object, other: object) -> Schema:
    """What holds to two schemas, as far as it can be said by one; the rest stays in an opaque keyword."""
    a, b = _resolved(root, one), _resolved(root, other)
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return b if isinstance(b, Mapping) else a if isinstance(a, Mapping) else {}
    whole: dict[str, Any] = dict(a)
    for key, value in b.items():
        if key not in whole or whole[key] == value:
            whole[key] = value
        elif key == "properties":
            merged = dict(whole[key])
            for name, spec in value.items():
                merged[name] = _both(root, merged[name], spec) if name in merged else spec
            whole[key] = merged
        elif key == "required":
            whole[key] = sorted({*whole[key], *value})
        elif key in {"minimum", "minLength", "minItems", "exclusiveMinimum"}:
            whole[key] = max(whole[key], value)
        elif key in {"maximum", "maxLength", "maxItems", "exclusiveMaximum"}:
            whole[key] = min(whole[key], value)
        elif key == "enum":
            whole[key] = [each for each in whole[key] if _in(each, value)]
        elif key == "type":
            whole[key] = _in_both(_kinds({"type": whole[key]}), _kinds({"type": value}))
        elif key in _COMPARED or key in _OPAQUE:
            whole.setdefault("not", {})
    return whole


def _in_both(one: Sequence[str], other: Sequence[str]) -> list[str]:
    found = [kind for kind in one if kind in other]
    wholes = "integer" in {*one, *other} and "number" in {*one, *other} and "number" not in found
    return [*found, "integer"] if wholes and "integer" not in found else found


def _plain(work: _Work, w: Schema, r: Schema, path: tuple[str, ...], depth: int) -> Iterator[Misfit]:
    # What is not looked into may keep out the very answers that would not be read.
    narrowed = any(key in w and not (key in r and _same(w[key], r[key])) for key in _OPAQUE)
    for each in _compared(work, w, r, path, depth):
        yield each._replace(certain=False) if narrowed else each


def _compared(work: _Work, w: Schema, r: Schema, path: tuple[str, ...], depth: int) -> Iterator[Misfit]:
    place = _named(path)
    for key in _OPAQUE:
        asked = key in r and not (key == "uniqueItems" and not r[key])
        if asked and not (key in w and _same(w[key], r[key])) and _matters(key, w):
            yield Misfit(place, f"it is held to `{key}`, which is not compared", False)
    if "patternProperties" in w and not _same(w["patternProperties"], r.get("patternProperties")):
        yield Misfit(place, "its fields are named by patterns, which are not compared", False)
    kinds, taken = _kinds(w), _kinds(r)
    values = [w["const"]] if "const" in w else w.get("enum")
    if isinstance(values, list):
        values = [
            value for value in values if _kind(value) in kinds or ("number" in kinds and _kind(value) == "integer")
        ]
        yield from _values(work, values, r, path, depth)
        return
    if missing := [kind for kind in kinds if not (kind in taken or (kind == "integer" and "number" in taken))]:
        told = " or ".join(missing)
        yield Misfit(place, f"is of type {told}, and {' or '.join(taken) or 'nothing'} is read", True)
        return
    if "const" in r or "enum" in r:
        if kinds == ["boolean"] and all(_in(each, r.get("enum", [r.get("const")])) for each in (True, False)):
            return
        if kinds == ["null"] and _in(None, r.get("enum", [r.get("const")])):
            return
        yield Misfit(place, "may hold other values than the ones that are read", True)
        return
    yield from _bounds(w, r, kinds, place)
    if "object" in kinds:
        yield from _object(work, w, r, path, depth)
    if "array" in kinds:
        yield from _array(work, w, r, path, depth)


_COMPARED = frozenset({"const", "items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf"})


def _matters(key: str, w: Schema) -> bool:
    """Whether a keyword can say anything of what is written."""
    of = {
        "pattern": ("string",),
        "multipleOf": ("number", "integer"),
        **dict.fromkeys(("uniqueItems", "contains", "minContains", "maxContains", "unevaluatedItems"), ("array",)),
        **dict.fromkeys(
            (
                "patternProperties",
                "propertyNames",
                "minProperties",
                "maxProperties",
                "dependentRequired",
                "dependentSchemas",
                "dependencies",
                "unevaluatedProperties",
            ),
            ("object",),
        ),
    }
    return key not in of or any(kind in of[key] for kind in _kinds(w))


def _values(work: _Work, values: Sequence[Any], r: Schema, path: tuple[str, ...], depth: int) -> Iterator[Misfit]:
    place = _named(path)
    known = [r["const"]] if "const" in r else r.get("enum")
    for value in values:
        if isinstance(known, list):
            if not _in(value, known):
                yield Misfit(place, f"may be {json.dumps(value, ensure_ascii=False)[:80]}, which is not read", True)
            continue
        kind = _kind(value)
        taken = _kinds(r)
        if kind not in taken and not (kind == "integer" and "number" in taken):
            yield Misfit(place, f"is of type {kind}, and {' or '.join(taken) or 'nothing'} is read", True)
            continue
        if isinstance(value, str):
            least: Schema = {"type": "string", "minLength": len(value), "maxLength": len(value)}
            yield from _bounds(least, r, ["string"], place)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield from _bounds({"minimum": value, "maximum": value}, r, [kind], place)
        elif isinstance(value, Mapping):
            fields: Schema = {name: {"const": each} for name, each in value.items()}
            closed: Schema = {"properties": fields, "required": list(value), "additionalProperties": False}
            yield from _object(work, closed, r, path, depth)
        elif isinstance(value, list):
            size: Schema = {"minItems": len(value), "maxItems": len(value)}
            items: Schema = {"prefixItems": [{"const": each} for each in value], "items": False, **size}
            yield from _array(work, items, r, path, depth)
            yield from _bounds(size, r, ["array"], place)


def _bounds(w: Schema, r: Schema, kinds: Sequence[str], place: str) -> Iterator[Misfit]:
    for names, sign, low in ((_LOWER, 1, True), (_UPPER, -1, False)):
        for name, exclusive in names:
            if not any(kind in _OF_TYPE[name] for kind in kinds):
                continue
            asked, given = _bound(r, name, exclusive, sign), _bound(w, name, exclusive, sign)
            if asked is not None and (given is None or given < asked):
                told = sign * asked[0]
                yield Misfit(place, f"may be {'below' if low else 'above'} the {name} of {told:g} that is read", True)


def _bound(schema: Schema, name: str, exclusive: str, sign: int) -> tuple[float, int] | None:
    """A bound so that larger is narrower: (number with its sign, 1 where the number itself is out)."""
    found: list[tuple[float, int]] = []
    value = schema.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        found.append((sign * value, 0))
    value = schema.get(exclusive) if exclusive else None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        found.append((sign * value, 1))
    if not found:
        # Lengths begin at nothing.
        return (0, 0) if name in {"minLength", "minItems"} and sign == 1 and name not in schema else None
    return max(found)


def _object(work: _Work, w: Schema, r: Schema, path: tuple[str, ...], depth: int) -> Iterator[Misfit]:
    has, reads = _mapping(w, "properties"), _mapping(r, "properties")
    always = {str(name) for name in w.get("required") or ()}
    more, takes = w.get("additionalProperties"), r.get("additionalProperties", True)
    # One that names no field at all says that it may hold any.
    opened = (isinstance(more, Mapping) and bool(more)) or (not has and more is not False)
    extra = more if isinstance(more, Mapping) else True
    for name in r.get("required") or ():
        if name in always:
            continue
        inner = _named((*path, str(name)))
        known = name in has and has[name] is not False
        yield Misfit(inner, "may be left out, and is required" if known else "is gone, and is required", True)
    for name, spec in has.items():
        inside = (*path, str(name))
        if spec is False:
            continue
        if name in reads:
            yield from _within(work, spec, reads[name], inside, depth + 1)
        elif takes is False and "patternProperties" not in r:
            yield Misfit(_named(inside), "is new, and no further fields are read", True)
        elif isinstance(takes, Mapping):
            yield from _within(work, spec, takes, inside, depth + 1)
    for name in always - set(has):
        yield from _within(work, extra, reads.get(name, takes), (*path, name), depth + 1)
    if opened:
        if takes is False:
            yield Misfit(_named((*path, "*")), "further fields may be there, and none are read", True)
        elif isinstance(takes, Mapping):
            yield from _within(work, extra, takes, (*path, "*"), depth + 1)
        for name, spec in reads.items():
            if name not in has and name not in always:
                yield from _within(work, extra, spec, (*path, str(name)), depth + 1)


def _array(work: _Work, w: Schema, r: Schema, path: tuple[str, ...], depth: int) -> Iterator[Misfit]:
    first, reads = _sequence(w, "prefixItems"), _sequence(r, "prefixItems")
    rest, takes = w.get("items", True), r.get("items", True)
    most = w.get("maxItems")
    for place in range(max(len(first), len(reads))):
        if isinstance(most, int) and place >= most:
            break
        written = first[place] if place < len(first) else rest
        if written is False:
            break
        yield from _within(
            work, written, reads[place] if place < len(reads) else takes, (*path, f"[{place}]"), depth + 1
        )
    longer = not (isinstance(most, int) and most <= max(len(first), len(reads)))
    if longer and rest is not False:
        yield from _within(work, rest, takes, (*path, "[]"), depth + 1)


def _resolved(root: object, schema: object) -> Schema | bool | None:
    """The schema behind references; None where one leads nowhere."""
    for _ in range(_DEEPEST):
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            return None
        reference = schema.get("$ref")
        if reference is None:
            return schema
        found = _pointed(root, reference)
        if found is None:
            return None
        beside = {key: value for key, value in schema.items() if key not in {"$ref", *_DESCRIBES}}
        if beside:
            return {"allOf": [found, beside]}
        schema = found
    return None


_DESCRIBES = ("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly", "$id")


def _pointed(root: object, reference: object) -> object | None:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found  # type: ignore[no-any-return]  # whatever the schema holds there


def _kinds(schema: Schema) -> list[str]:
    said = schema.get("type")
    if isinstance(said, str):
        return [said]
    if isinstance(said, list):
        return [kind for kind in said if isinstance(kind, str)]
    return [kind for kind in _TYPES if kind != "integer"]


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if float(value).is_integer() else "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) and "$ref" not in json.dumps(one)


def _in(value: Any, values: Sequence[Any]) -> bool:
    # 1 and true are equal to Python, and not to JSON.
    return any(_kind(value) == _kind(each) and value == each for each in values)


def _mapping(schema: Schema, name: str) -> Schema:
    found = schema.get(name)
    return found if isinstance(found, Mapping) else {}


def _sequence(schema: Schema, name: str) -> Sequence[Any]:
    found = schema.get(name)
    return found if isinstance(found, list) else []
