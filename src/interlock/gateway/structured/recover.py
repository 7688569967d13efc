"""Reads JSON and tool calls from text as models write them when nothing holds them to a form.

Lenient in form only: code fences, words around it, trailing commas, single quotes, Python's literals, comments, and a
missing end of a *word* are forgiven; a value that is cut off is not completed, because that would invent content.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

__all__ = ["FoundCall", "find_calls", "find_json"]

_MOST_CHARS = 100_000
_MOST_CANDIDATES = 40
_MOST_OPEN = 8
"""Brackets without an end that are looked at: each is looked for to the end of the text."""
_MOST_NEARLY = 50_000
"""Longest text that is read as something only nearly JSON."""
_FENCE = re.compile(r"```[ \t]{0,20}([\w+-]{0,40})[^\n]{0,100}\n(.*?)(?:\n[ \t]{0,20}```|```|\Z)", re.DOTALL)
_FENCE_LANGUAGES = frozenset(
    ("", "json", "json5", "jsonc", "javascript", "js", "python", "py", "tool_call", "tool", "tool_code")
)
_TAG = re.compile(r"<(tool_call|function_call|tool)>")
_FUNCTION_TAG = re.compile(r"<function[=\s](?:name=)?\"?([\w.-]{1,128})\"?\s{0,20}>")
_CALL = re.compile(r"(?<![\w.-])([A-Za-z_][\w.-]*)\s{0,20}\(")
_BEFORE = re.compile(
    r"[\s>*`\[(-]*(?:\d+[.)]\s*)?(?:\w{1,20}:\s*|\w{1,40}\s*=\s*|await\s+|print\(|return\s+|[\w.]{1,40}\.)?[`\[\s]*"
)
_BEHIND = re.compile(r"[\s`\]);,]*(?:#.*)?", re.DOTALL)
_NAME_KEYS = ("name", "tool", "function", "tool_name", "function_name", "action")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "params", "action_input")


class FoundCall(NamedTuple):
    """A tool call that was written as text."""

    name: str
    arguments: dict[str, Any]


class _Nothing:
    pass


_NOTHING = _Nothing()


# Any in this module: JSON.
def find_json(text: str) -> tuple[bool, Any]:
    """(found, value): the JSON value that a text holds: all of it, in a code fence, or among words."""
    for candidate in _candidates(text[:_MOST_CHARS]):
        value = _read(candidate)
        if not isinstance(value, _Nothing):
            return True, value
    return False, None


def find_calls(text: str, offered: Collection[str]) -> list[FoundCall]:
    """Calls of `offered` tools in a text, in order; text that names other tools is just text."""
    text = text[:_MOST_CHARS]
    for find in (_tagged_calls, _function_tags, _json_calls, _written_calls):
        calls = [call for call in find(text, offered) if call.name in offered]
        if calls:
            return calls
    return []


def _tagged_calls(text: str, offered: Collection[str]) -> Iterator[FoundCall]:
    for _, body in _tagged(_TAG, text):
        _, value = find_json(body)
        found = list(_calls_in(value))
        yield from found or _written_calls(body, offered)


def _tagged(opening: re.Pattern[str], text: str, closing: str = "") -> Iterator[tuple[str, str]]:
    """The group of an opening tag, and what stands up to its closing one, or to the end of the text."""
    at = 0
    while (match := opening.search(text, at)) is not None:
        end = text.find(f"</{closing or match.group(1)}>", match.end())
        end = len(text) if end < 0 else end
        yield match.group(1), text[match.end() : end].strip()
        at = end


def _function_tags(text: str, offered: Collection[str]) -> Iterator[FoundCall]:
    for name, body in _tagged(_FUNCTION_TAG, text, "function"):
        found, value = find_json(body) if body else (True, {})
        if found and isinstance(value, dict):
            yield FoundCall(name, value)


def _json_calls(text: str, offered: Collection[str]) -> Iterator[FoundCall]:
    for pieces in ([text], list(_fenced(text)), list(_bracketed(text))):
        # The same call is found again in a wider or narrower piece: the first kind of piece with a call decides.
        calls = [call for piece in pieces for call in _calls_in(_read(piece))]
        if calls:
            yield from calls
            return


def _calls_in(value: Any) -> Iterator[FoundCall]:
    """Calls in a JSON value: one object, a list of them, or OpenAI's own shape."""
    if isinstance(value, list):
        for item in value:
            yield from _calls_in(item)
        return
    if not isinstance(value, dict):
        return
    if isinstance(value.get("tool_calls"), list):
        yield from _calls_in(value["tool_calls"])
        return
    if isinstance(value.get("function"), dict):
        yield from _calls_in(value["function"])
        return
    name = next((value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)), None)
    if name is None:
        return
    arguments: Any = next((value[key] for key in _ARGUMENT_KEYS if key in value), {})
    if isinstance(arguments, str):
        # OpenAI's shape has the arguments as JSON text.
        _, arguments = find_json(arguments)
    if isinstance(arguments, dict):
        yield FoundCall(name, arguments)


def _written_calls(text: str, offered: Collection[str]) -> Iterator[FoundCall]:
    """``name(key="value")``, ``name({"key": "value"})``."""
    after, left_open = 0, 0
    for match in _CALL.finditer(text):
        if match.group(1) not in offered or match.start() < after:
            continue
        end = _closing(text, match.end() - 1)
        if end is None:
            left_open += 1
            if left_open >= _MOST_OPEN:
                return
            continue
        after = end
        if text[match.end() : match.end() + 20].lstrip()[:1] != "{" and not _stands_alone(text, match.start(), end + 1):
            # In the midst of a sentence it is talked about; an object of arguments nobody writes for that.
            continue
        arguments = _call_arguments(text[match.end() : end])
        if arguments is not None:
            yield FoundCall(match.group(1), arguments)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """True for a call that has its lines to itself, as code has."""
    before = text[max(0, text.rfind("\n", 0, start) + 1, start - 80) : start]
    line_end = text.find("\n", end, end + 80)
    behind = text[end : line_end if line_end >= 0 else end + 80]
    return _BEFORE.fullmatch(before) is not None and _BEHIND.fullmatch(behind) is not None


def _call_arguments(inner: str) -> dict[str, Any] | None:
    inner = inner.strip()
    if not inner:
        return {}
    if len(inner) > _MOST_NEARLY and not inner.startswith("{"):
        return None
    if inner.startswith("{"):
        value = _read(inner)
        return value if isinstance(value, dict) else None
    try:
        call = ast.parse(f"f({_pythonic(inner)})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            return None
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AssertionError, RecursionError, MemoryError):
        return None


def _candidates(text: str) -> Iterator[str]:
    """Pieces of a text that may be JSON, likeliest first."""
    yield text
    yield from _fenced(text)
    yield from _bracketed(text)


def _fenced(text: str) -> Iterator[str]:
    for language, body in _FENCE.findall(text):
        if language.casefold() in _FENCE_LANGUAGES:
            yield body


def _bracketed(text: str) -> Iterator[str]:
    at, count, left_open = 0, 0, 0
    while count < _MOST_CANDIDATES and left_open < _MOST_OPEN and (start := _opening(text, at)) is not None:
        end = _closing(text, start)
        count += 1
        if end is None:
            left_open += 1
            at = start + 1
            continue
        yield text[start : end + 1]
        at = end + 1


def _opening(text: str, at: int) -> int | None:
    found = [position for position in (text.find("{", at), text.find("[", at)) if position >= 0]
    return min(found) if found else None


def _closing(text: str, start: int) -> int | None:
    """Position of the bracket that closes the one at `start`, strings left out of account."""
    pairs = {"(": ")", "[": "]", "{": "}"}
    stack: list[str] = []
    quote = ""
    escaped = False
    for position in range(start, len(text)):
        char = text[position]
        if quote:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == quote:
                quote = ""
        elif char == '"' or (char == "'" and not (position and text[position - 1].isalnum())):
            # An apostrophe inside a word opens no string.
            quote = char
        elif char in pairs:
            stack.append(pairs[char])
        elif stack and char == stack[-1]:
            stack.pop()
            if not stack:
                return position
    return None


def _read(text: str) -> Any:
    """The value of a JSON text, also of a nearly JSON one; `_NOTHING` when it is none."""
    text = text.strip()
    if not text:
        return _NOTHING
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        pass
    if text[0] not in "{[" or len(text) > _MOST_NEARLY:
        return _NOTHING
    repaired = _repaired(text)
    try:
        return json.loads(repaired, parse_constant=_refuse, parse_float=_finite, strict=False)
    except (ValueError, RecursionError):
        pass
    try:
        return _jsonable(ast.literal_eval(_pythonic(repaired)))
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return _NOTHING


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _finite(written: str) -> float:
    number = float(written)
    if not math.isfinite(number):
        raise ValueError("a number that JSON cannot say")
    return number


def _repaired(text: str) -> str:
    """Comments and trailing commas taken out, outside of strings."""
    out: list[str] = []
    position, quote = 0, ""
    while position < len(text):
        char = text[position]
        if quote:
            out.append(char)
            if char == "\\" and position + 1 < len(text):
                out.append(text[position + 1])
                position += 1
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
            out.append(char)
        elif text.startswith("//", position):
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
            continue
        elif text.startswith("/*", position):
            end = text.find("*/", position)
            position = len(text) if end < 0 else end + 2
            continue
        elif char == "," and re.match(r",\s*[\]}]", text[position : position + 200]):
            pass
        else:
            out.append(char)
        position += 1
    return "".join(out)


def _pythonic(text: str) -> str:
    """JSON's words as Python's, outside of strings."""
    # An escaped sign opens no string: each would be looked for to the end of the text.
    pieces = re.split(r"(\\.|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')", text, flags=re.DOTALL)
    words = {"true": "True", "false": "False", "null": "None"}
    for position in range(0, len(pieces), 2):
        pieces[position] = re.sub(r"\b(true|false|null)\b", lambda match: words[match.group(1)], pieces[position])
    return "".join(pieces)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("keys are texts")
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError("no JSON value")
