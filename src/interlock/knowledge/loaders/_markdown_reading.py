"""Reading Markdown into a document that is being built: CommonMark with tables and strikethrough."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from interlock.knowledge.loaders._building import TextBuilder, squeeze
from interlock.knowledge.types import BlockKind

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["read_markdown"]

_TAG = re.compile(r"<!--.*?-->|<(script|style)\b.*?(?:</\1>|\Z)|</?[A-Za-z][^<>]*>", re.DOTALL | re.IGNORECASE)
_MAX_NESTING = 100


def read_markdown(text: str, builder: TextBuilder) -> None:
    """Add the content of `text` without its markup; may add nothing."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable(["table", "strikethrough"])
    _Reader(builder).read(parser.parse(text))


class _Reader:
    """Walks the flat token list; a small state says what the next inline text belongs to."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._lists: list[int | None] = []
        """Next number of each open list, None for bullets."""
        self._marker = ""
        self._rows: list[list[str]] = []
        self._heading = 0
        self._in_table = False

    def read(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            if token.type == "inline":
                self._text(_plain(token.children or []))
            elif token.type in {"fence", "code_block"}:
                self._builder.add("code", token.content)
            elif token.type == "html_block":
                self._text(squeeze(_TAG.sub(" ", token.content)))
            else:
                self._structure(token)

    def _text(self, text: str) -> None:
        if self._in_table:
            self._rows[-1].append(text)
        elif self._heading:
            self._builder.heading(text, self._heading)
        else:
            kind: BlockKind = "list" if self._lists else "paragraph"
            self._builder.add(kind, self._marker + text)
            self._marker = ""

    def _structure(self, token: Token) -> None:
        match token.type:
            case "heading_open":
                self._heading = int(token.tag[1])
            case "heading_close":
                self._heading = 0
            case "bullet_list_open":
                self._lists.append(None)
            case "ordered_list_open":
                self._lists.append(int(token.attrGet("start") or 1))
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
            case "list_item_open":
                self._marker = self._next_marker()
            case "table_open":
                self._in_table, self._rows = True, []
            case "tr_open":
                self._rows.append([])
            case "table_close":
                self._in_table = False
                self._builder.table(self._rows, has_header=True)
            case _:
                pass

    def _next_marker(self) -> str:
        number = self._lists[-1]
        if number is None:
            return ""
        self._lists[-1] = number + 1
        return f"{number}. "


def _plain(children: Sequence[Token]) -> str:
    return squeeze("".join(_pieces(children)))


def _pieces(children: Sequence[Token]) -> Iterator[str]:
    for child in children:
        match child.type:
            case "text" | "code_inline" | "text_special":
                yield child.content
            case "softbreak" | "hardbreak":
                yield " "
            case "image":
                yield child.content
            case "html_inline":
                if child.content.lower().startswith("<br"):
                    yield " "
            case _:
                pass
