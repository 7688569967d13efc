"""Markdown as readable text: markup gone, tables as rows, front matter as metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from interlock.knowledge.loaders._building import TextBuilder, squeeze
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.types import BlockKind, LoadedDocument

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["MarkdownLoader", "plugin"]

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,16384}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TAG = re.compile(r"<!--.*?-->|<(script|style)\b.*?(?:</\1>|\Z)|</?[A-Za-z][^<>]*>", re.DOTALL | re.IGNORECASE)
_MAX_NESTING = 100


class MarkdownLoader:
    """CommonMark with tables and strikethrough."""

    version = "markdown/1"
    suffixes = frozenset({".md", ".markdown", ".mdx"})
    isolated = False

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        from markdown_it import MarkdownIt

        source, metadata = _front_matter(decode(data, name))
        parser = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable(["table", "strikethrough"])
        builder = TextBuilder(name, "text/markdown")
        _Reader(builder).read(parser.parse(source))
        return builder.build(title=metadata.get("title", ""), metadata=metadata)


def _front_matter(text: str) -> tuple[str, dict[str, str]]:
    """Body and the flat facts of the YAML before it; text that only looks like front matter stays text."""
    import yaml

    found = _FRONT_MATTER.match(text)
    if found is None:
        return text, {}
    try:
        # Other people's documents: a name that stands twice is no reason to show the facts as text.
        values = yaml.safe_load(found.group(1))
    except (yaml.YAMLError, ValueError, RecursionError):
        return text, {}
    if not isinstance(values, Mapping):
        return text, {}
    facts = {str(key): fact for key, value in values.items() if (fact := _fact(value))}
    return text[found.end() :], facts


def _fact(value: object) -> str:
    """Scalars and lists of scalars; anything nested is left out (and cannot be expanded without end)."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return squeeze(str(value))[:1000]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list):
        return ", ".join(filter(None, (_fact(item) for item in value[:50] if not isinstance(item, (list, dict)))))[
            :1000
        ]
    return ""


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


plugin = MarkdownLoader()
