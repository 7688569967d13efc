"""What pydantic says about a wrong value, in our words."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

__all__ = ["first", "plain", "told"]

_SAID = {
    "Extra inputs are not permitted": "there is no such field",
    "Field required": "it is missing",
}


def plain(message: str) -> str:
    """`message` of a validation error, without the library's own phrases."""
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return _SAID.get(message, message)


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
