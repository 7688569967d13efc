"""What a target of one's own may answer: text, or an object with the fields of an output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from interlock.core.errors import InvalidInput
from interlock.evals.types import Case, Output

__all__ = ["asked", "output_of"]

MOST_TEXT = 4 << 20
_FIGURES = ("input_tokens", "output_tokens", "cost_nano", "latency_s", "first_token_s", "retry_after_s")


def asked(case: Case, repeat: int) -> dict[str, Any]:  # Any: JSON values
    """What a target is told of a case: never what the right answer is."""
    turns = case.input if isinstance(case.input, list) else None
    return {
        "id": case.id,
        "input": case.question,
        "messages": [turn.model_dump() for turn in turns] if turns else [{"role": "user", "content": case.question}],
        "context": list(case.context),
        "user": case.user,
        "variables": case.variables,
        "repeat": repeat,
        "metadata": case.metadata,
    }


def output_of(reply: object) -> Output:
    """The output a reply stands for, fit to be written down. Raises: InvalidInput naming what is wrong with it."""
    made = _read(reply)
    for name in _FIGURES:
        value = getattr(made, name)
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
            raise InvalidInput(f"the answer's {name} is no number of 0 or more", param=name)
    try:
        msgspec.json.encode(made)
    except UnicodeEncodeError:
        # Half a surrogate pair, which JSON's escapes can leave in a text: no file holds it.
        return msgspec.convert(_encodable(msgspec.to_builtins(made)), Output)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput("the answer holds something that is no JSON value", param="output") from error
    return made


def _encodable(value: Any) -> Any:  # Any: JSON values
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_encodable(name): _encodable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_encodable(each) for each in value]
    return value


def _read(reply: object) -> Output:
    if isinstance(reply, Output):
        return reply
    if isinstance(reply, str):
        if len(reply) > MOST_TEXT:
            raise InvalidInput(f"the answer is longer than {MOST_TEXT:,} characters", param="text")
        return Output(reply)
    if isinstance(reply, Mapping):
        try:
            return msgspec.convert(dict(reply), Output)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"the answer's fields are wrong: {error}", param="output") from error
    raise InvalidInput(f"an answer is text or an object, not a {type(reply).__name__}", param="output")
