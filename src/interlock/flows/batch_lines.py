"""Lines of a batch's input file: read, checked, and what they may ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.gateway.fields import Loose, parsed
from interlock.gateway.kept import Batch

__all__ = ["ENDPOINTS", "AskedLine", "read_lines"]

# Any in this module: JSON objects.
_MAX_ERRORS = 20
ENDPOINTS: Mapping[str, str] = {
    "/v1/chat/completions": "openai.chat",
    "/v1/responses": "openai.responses",
    "/v1/messages": "anthropic.messages",
    "/v1/embeddings": "",
}
"""Where lines go, to the wire that they speak; embeddings have none."""


class _Line(Loose):
    custom_id: str
    method: str = "POST"
    url: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AskedLine:
    """One that is right."""

    number: int
    custom_id: str
    model: str
    raw: bytes
    """As it stands in the file: parsed, the lines of all batches under way would take several times as much memory."""

    @property
    def body(self) -> dict[str, Any]:
        """What it asks for; made anew each time."""
        body: dict[str, Any] = json.loads(self.raw)["body"]
        return body


def read_lines(content: bytes, batch: Batch, max_lines: int) -> tuple[list[AskedLine], list[dict[str, Any]]]:
    """Lines of an input file, and what is wrong with them; `line` counts from 1."""
    lines: list[AskedLine] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, raw in enumerate(content.splitlines(), 1):
        if not raw.strip():
            continue
        if len(lines) >= max_lines:
            errors.append(_problem("too_many_lines", f"a batch has at most {max_lines:,} lines", number))
            break
        try:
            line = parsed(_Line, json.loads(raw))
            _check_line(line, batch.endpoint, seen)
        except (ValueError, RecursionError):
            errors.append(_problem("invalid_json_line", "the line is not JSON", number))
        except InvalidInput as error:
            errors.append(_problem("invalid_line", error.message, number, error.param))
        else:
            seen.add(line.custom_id)
            lines.append(AskedLine(number, line.custom_id, str(line.body.get("model", ""))[:200], raw))
        if len(errors) >= _MAX_ERRORS:
            break
    if not lines and not errors:
        errors.append(_problem("empty_file", "the file has no lines", None))
    return lines, errors


def _check_line(line: _Line, endpoint: str, seen: set[str]) -> None:
    if not 1 <= len(line.custom_id) <= 512:
        raise InvalidInput("custom_id has 1 to 512 characters", param="custom_id")
    if line.custom_id in seen:
        raise InvalidInput("custom_id is there twice", param="custom_id")
    if line.url != endpoint:
        raise InvalidInput(f"url must be {endpoint}", param="url")
    if line.method.upper() != "POST":
        raise InvalidInput("method must be POST", param="method")
    if line.body.get("stream"):
        raise InvalidInput("a line of a batch cannot stream", param="body.stream")


def _problem(code: str, message: str, line: int | None, param: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}
