"""What the parts of a text gave, as one value; and where in the text it stands."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from interlock.core.passages import Span

__all__ = ["merged", "places", "relaxed"]

# Any in this module: JSON values and schemas.
_MOST_PLACES = 1_000
_SHORTEST = 2


def relaxed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema for one part of a text, which need not hold everything: each field may be null."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return dict(schema)
    return {
        **schema,
        "properties": {name: _or_null(one) for name, one in properties.items()},
        "required": list(properties),
    }


def _or_null(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    if schema.get("type") == "object":
        return {**relaxed(schema), "type": ["object", "null"]}
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return schema if kind == "array" else {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def merged(values: Sequence[Any]) -> Any:
    """One value of those of the parts: lists joined without what is there twice, objects field by field, of anything
    else what most parts say, and of equally many the first. Parts that say nothing do not count.
    """
    said = [value for value in values if value is not None]
    if not said:
        return None
    if all(isinstance(value, dict) for value in said):
        names = list(dict.fromkeys(name for value in said for name in value))
        found = {name: merged([value.get(name) for value in said]) for name in names}
        return {name: value for name, value in found.items() if value is not None}
    if all(isinstance(value, list) for value in said):
        joined: dict[str, Any] = {}
        for value in said:
            for each in value:
                joined.setdefault(json.dumps(each, sort_keys=True, ensure_ascii=False), each)
        return list(joined.values())
    counts = Counter(json.dumps(value, sort_keys=True, ensure_ascii=False) for value in said)
    most = max(counts.values())
    return next(v for v in said if counts[json.dumps(v, sort_keys=True, ensure_ascii=False)] == most)


def places(text: str, value: Any) -> dict[str, Span]:
    """Where values of a form stand in the text, by their path (`/party/0/name`): the first place of each word for word.

    Values that the text does not hold so are left out: they were inferred, or made up.
    """
    folded = text.casefold()
    same_length = len(folded) == len(text)
    found: dict[str, Span] = {}
    for path, said in _leaves(value, ""):
        if len(found) == _MOST_PLACES:
            break
        place = _place(folded if same_length else text, said.casefold() if same_length else said)
        if place is not None:
            found[path] = place
    return found


def _place(text: str, said: str) -> Span | None:
    if len(said.strip()) < _SHORTEST and not said.strip().isdecimal():
        return None
    # Line ends of the text are spaces of a value.
    pattern = r"\s+".join(re.escape(word) for word in said.split())
    match = re.search(rf"(?<!\w){pattern}(?!\w)", text)
    return None if match is None else Span(match.start(), match.end())


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}/{str(name).replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}/{number}")
    elif isinstance(value, str) and value.strip():
        yield path, value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, f"{value:g}" if isinstance(value, float) else str(value)
