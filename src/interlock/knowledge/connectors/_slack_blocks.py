"""What a message of Slack shows: its text, or the blocks that stand in its place, and what is attached to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from interlock.knowledge.connectors._markdown import plain
from interlock.knowledge.connectors._shelf import listed, named, words

__all__ = ["message_text"]

_MOST_DEPTH = 8
_MOST_PIECES = 2_000
"""Of one message."""


# Any in this module: messages as Slack sends them.
def message_text(message: dict[str, Any]) -> str:
    """In Slack's own marks, a line for each block and each field of an attachment."""
    blocks = listed(message.get("blocks"))
    text = words(message, "text")
    # People's messages say the same in both; of an app's, Slack shows the blocks and the text in notifications only.
    if not text or any(words(block, "type") != "rich_text" for block in blocks):
        text = "\n".join(_lines(blocks)) or text
    attached = (line for one in listed(message.get("attachments")) for line in _attachment(one))
    return "\n".join(line for line in (text, *attached) if line.strip())


def _attachment(one: dict[str, Any]) -> Iterator[str]:
    lines = [words(one, name) for name in ("pretext", "author_name", "title", "text")]
    for field in listed(one.get("fields")):
        lines.append(": ".join(word for name in ("title", "value") if (word := words(field, name))))
    lines += [*_lines(listed(one.get("blocks"))), words(one, "footer")]
    said = [line for line in lines if line]
    yield from said or [words(one, "fallback")]


def _lines(blocks: list[dict[str, Any]]) -> list[str]:
    budget = iter(range(_MOST_PIECES))
    return [line for block in blocks if (line := _shown(block, budget, 0).strip())]


def _shown(piece: Any, budget: Iterator[int], depth: int) -> str:
    """Text of a block, or of an element at any depth of one."""
    if not isinstance(piece, dict) or depth > _MOST_DEPTH or next(budget, None) is None:
        return ""
    kind = words(piece, "type")
    if kind == "mrkdwn":
        return words(piece, "text")
    if kind in {"plain_text", "text", "raw_text"}:
        return plain(words(piece, "text"))
    if kind == "link":
        return plain(words(piece, "text") or words(piece, "url"))
    if kind in {"user", "channel", "usergroup"}:
        return f"<{'#' if kind == 'channel' else '@'}{words(piece, f'{kind}_id')}>"
    if kind in {"image", "video"}:
        return plain(words(named(piece, "title"), "text") or words(piece, "title") or words(piece, "alt_text"))
    if kind == "markdown":
        return words(piece, "text")
    if kind == "table":
        rows = (row for row in piece.get("rows") or () if isinstance(row, list))
        return "\n".join(" | ".join(_shown(cell, budget, depth + 1) for cell in row) for row in rows)
    apart = "" if kind == "rich_text_section" else "\n"
    inner = [piece.get("text"), *listed(piece.get("fields")), *listed(piece.get("elements"))]
    return apart.join(text for one in inner if (text := _shown(one, budget, depth + 1)))
