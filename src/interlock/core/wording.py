"""What pydantic says about a wrong value, in our words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

__all__ = ["first", "plain", "told"]

_SAID = {
    "Extra inputs are not permitted": "there is no such field",
    "Field required": "it is missing",
    "Input should be a valid list": "it is a list",
    "Input should be a valid dictionary": "it is a mapping of names to values",
    "Input should be a valid string": "it is a text",
    "Input should be a finite number": "it is a finite number",
    "Port out of range 0-65535": "a port is a number from 1 to 65535",
    "Input should be a valid integer, got a number with a fractional part": "it is a whole number",
}
_PATTERNS = [
    (re.compile(pattern), said)
    for pattern, said in (
        (r"Input should be a valid boolean.*", r"it is true or false"),
        (r"Input should be a valid integer.*", r"it is a whole number"),
        (r"Input should be a valid (?:number|decimal).*", r"it is a number"),
        (r"Input should be greater than or equal to (\S+)", r"it is at least \1"),
        (r"Input should be greater than (\S+)", r"it is more than \1"),
        (r"Input should be less than or equal to (\S+)", r"it is at most \1"),
        (r"Input should be less than (\S+)", r"it is less than \1"),
        (
            r"(?:List|Tuple|Set|Dictionary) should have at least (\d+) items? after validation, not (\d+)",
            r"it has \2 entries and needs at least \1",
        ),
        (
            r"(?:List|Tuple|Set|Dictionary) should have at most (\d+) items? after validation, not (\d+)",
            r"it has \2 entries and may have \1 at most",
        ),
        (r"(?:String|Value) should have at least (\d+) (?:characters?|items?).*", r"it has at least \1 characters"),
        (r"(?:String|Value) should have at most (\d+) (?:characters?|items?).*", r"it has at most \1 characters"),
        (r"Input should be ('.+)", r"it is one of \1"),
        (r"String should match pattern '\^\\d\+\(.*", r"it is an amount, as 50 or 0.25"),
        (r"String should match pattern '(.*)'", r"it has the form \1"),
        (r"Input should be a valid dictionary or .*", r"it is a mapping of names to values"),
    )
]
"""Sentences with figures, the narrower first."""


def plain(message: str) -> str:
    """`message` of a validation error, without the library's own phrases.

    >>> plain("Input should be greater than or equal to 0")
    'it is at least 0'
    >>> plain("List should have at least 1 item after validation, not 0")
    'it has 0 entries and needs at least 1'
    """
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if message in _SAID:
        return _SAID[message]
    found = next(((said, match) for pattern, said in _PATTERNS if (match := pattern.fullmatch(message))), None)
    return message if found is None else found[1].expand(found[0])


def first(error: ValidationError) -> ErrorDetails:
    """The fault to tell of: a field that does not exist before one that is missing, because it may be that one."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    return next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])


def told(model: type[BaseModel], detail: ErrorDetails) -> str:
    """What is wrong with a value that should have been a `model`; a field that does not exist is told its nearest."""
    said = plain(detail["msg"])
    if detail["type"] != "extra_forbidden":
        return said
    *path, wrong = detail["loc"]
    near = difflib.get_close_matches(str(wrong), _fields(model, path), n=1)
    return f"{said}; did you mean {near[0]!r}?" if near else said


def _fields(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Names of the fields of what stands at `path` in a `model`."""
    at: object = model
    for step in path:
        found = _model(at)
        if found is not None:
            field = found.model_fields.get(str(step))
            at = None if field is None else field.annotation
        else:
            at = next(iter(get_args(_bare(at))[-1:]), None)
    found = _model(at)
    return [] if found is None else list(found.model_fields)


def _bare(annotation: object) -> object:
    """Without ``| None``."""
    if get_origin(annotation) in {Union, UnionType}:
        return next((one for one in get_args(annotation) if one is not type(None)), annotation)
    return annotation


def _model(annotation: object) -> type[BaseModel] | None:
    bare = _bare(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None
