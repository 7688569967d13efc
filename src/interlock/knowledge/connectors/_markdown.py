"""Things of other systems as Markdown documents: a title, facts, text, comments."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

__all__ = ["document", "heading", "path_part", "plain"]


def heading(text: str, level: int = 1) -> str:
    """One heading; whatever the text holds, it stays on its line."""
    return f"{'#' * level} {plain(' '.join(text.split())) or 'Untitled'}"


def plain(text: str) -> str:
    """Plain text as Markdown that shows its signs: without this ``List<String>`` would lose a word."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def document(title: str, body: str, comments: Iterable[tuple[str, str]] = (), *, called: str = "Comment") -> bytes:
    """A Markdown document.

    Args:
        title: of the thing.
        body: Markdown; see `plain`.
        comments: author and text, in order.
        called: what one of them is.
    """
    parts = [heading(title), body.strip()]
    for author, text in comments:
        if text.strip():
            parts += [heading(f"{called} by {author}" if author else called, 2), text.strip()]
    return ("\n\n".join(part for part in parts if part) + "\n").encode("utf-8", "replace")


def path_part(text: str) -> str:
    """A name as one step of a path, always the same for the same name and different for different ones."""
    return re.sub(r"^\.+", lambda dots: "%2E" * len(dots[0]), quote(text, safe=" .,_-@()+"))
