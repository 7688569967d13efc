"""Conversations and objects of other tools' files, as fields of a case."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from interlock.core.errors import InvalidInput, TooLarge
from interlock.evals.formats._lines import NoValue, json_lines, read_json

__all__ = ["expected_of", "input_of", "objects"]

_MOST_WHOLE_BYTES = 256 << 20
_QUESTIONS = ("question", "input", "query", "prompt", "user_input", "message", "text")
_ANSWERS = ("answer", "output", "expected", "expected_output", "response", "text")


def objects(path: Path, *inside: str) -> Iterator[tuple[str, dict[str, Any]]]:  # Any: whatever the file holds
    """The objects of a file: one a line, or one JSON list, or a list below the keys `inside` of one JSON object.

    Raises: InvalidInput naming the place; TooLarge.
    """
    with path.open("rb") as file:
        first = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    value = _whole(path) if first.startswith(b"[") or _is_one_object(first) else None
    for key in inside if isinstance(value, dict) else ():
        value = value[key] if isinstance(value, dict) and key in value else value
    if not isinstance(value, list):
        yield from json_lines(path)
        return
    for number, each in enumerate(value, start=1):
        if not isinstance(each, dict):
            raise InvalidInput(f"entry {number} of {path.name!r} is no JSON object", param=f"entry {number}")
        yield f"entry {number}", each


def _is_one_object(first: bytes) -> bool:
    # An object over several lines: of lines of JSON the first one is whole.
    line = first.split(b"\n", 1)[0]
    if not line.startswith(b"{"):
        return False
    try:
        return any(key in json.loads(line) for key in ("data", "examples", "items"))
    except (ValueError, RecursionError):
        return True


def _whole(path: Path) -> Any:
    if path.stat().st_size > _MOST_WHOLE_BYTES:
        raise TooLarge(
            f"{path.name!r} is one JSON value of more than {_MOST_WHOLE_BYTES >> 20} MiB",
            param="cases.file",
            hint="export it as JSON lines",
        )
    try:
        return read_json(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name!r} is not UTF-8", param="cases.file") from error
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"line {error.lineno} of {path.name!r} is not JSON: {error.msg}", param=f"line {error.lineno}"
        ) from error
    except NoValue as error:
        raise InvalidInput(f"{path.name!r} is not JSON: {error}", param="cases.file") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path.name!r} is not JSON", param="cases.file") from error


def input_of(value: object, place: str, field: str = "input") -> str | list[dict[str, str]]:
    """A question or a conversation. Raises: InvalidInput naming place and field.

    Of an object the usual names are looked for (``messages``, ``question`` …); one with a single text is that text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return [_turn(each, place, f"{field}.{number}") for number, each in enumerate(value)]
    if isinstance(value, Mapping):
        if isinstance(value.get("messages"), list):
            return input_of(value["messages"], place, f"{field}.messages")
        named = _named(value, _QUESTIONS)
        if named is not None:
            return named
    raise InvalidInput(
        f"{place}: {field} is neither a text nor messages, and none of its fields says which one is asked",
        param=field,
        hint=f"one of {', '.join(_QUESTIONS)}",
    )


def expected_of(value: object) -> object:
    """A reference: the text where there is just one, else the value itself."""
    named = _named(value, _ANSWERS) if isinstance(value, Mapping) else None
    return value if named is None else named


def _named(value: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    texts = {name: each for name, each in value.items() if isinstance(each, str)}
    for name in names:
        if name in texts:
            return texts[name]
    return next(iter(texts.values())) if len(texts) == len(value) == 1 else None


def _turn(value: object, place: str, field: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{place}: {field} is no message", param=field)
    role, content = value.get("role"), value.get("content")
    if role == "developer":
        role = "system"
    if role not in {"system", "user", "assistant"}:
        raise InvalidInput(f"{place}: {field}.role is system, user or assistant", param=f"{field}.role")
    if isinstance(content, list):
        parts = [each.get("text") if isinstance(each, Mapping) else None for each in content]
        if any(not isinstance(part, str) for part in parts):
            raise InvalidInput(f"{place}: {field}.content has parts that are no text", param=f"{field}.content")
        content = "\n".join(str(part) for part in parts)
    if not isinstance(content, str):
        raise InvalidInput(f"{place}: {field}.content is no text", param=f"{field}.content")
    return {"role": str(role), "content": content}
