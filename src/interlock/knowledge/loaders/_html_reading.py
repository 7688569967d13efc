"""Reading HTML into a document that is being built: the main content, without navigation, scripts and hidden parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from interlock.knowledge.loaders._building import TextBuilder, squeeze
from interlock.knowledge.types import BlockKind

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

__all__ = ["PageFacts", "read_html"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DROPPED = _words(
    """
    script style noscript template nav footer aside form button select svg canvas iframe object head dialog
    """
)
_DROPPED_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "complementary", "dialog"})
_AROUND = _words(
    """
    cookie cookies cookie-banner cookie-bar cookie-consent cookie-notice cookiebanner gdpr-banner consent-banner
    sidebar side-bar footer site-footer page-footer navbar nav-bar navigation site-nav main-nav main-menu
    breadcrumb breadcrumbs skip-link skip-to-content advertisement adsbygoogle social-share share-buttons social-links
    newsletter-signup popup modal
    """
)
"""Names (classes, ids) of what stands around the content of pages that do not say so by their elements."""
_LEAST_SHARE = 0.3
"""Of a page's text that must be left without what is named so; else the names mean something else here."""
_UNSEEN = re.compile(
    r"display:none|visibility:hidden|opacity:0(?:\.0+)?(?![.\d])|font-size:0(?:px|em|rem|%)?(?![.\d])"
    r"|(?:left|top|text-indent):-\d{3,}(?:px|em|rem)"
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = _words(
    """
    address article blockquote body caption dd details div dl dt fieldset figcaption figure header hr li main
    ol p pre section summary table tbody td tfoot th thead tr ul
    """
)
_Edge = Literal["enter", "leave"]


class PageFacts(NamedTuple):
    """What a page says about itself."""

    title: str
    """Its first heading of level 1, else its title; may be empty."""
    metadata: Mapping[str, str]


def read_html(text: str, builder: TextBuilder, *, level: int = 0) -> PageFacts:
    """Add the content of ``<main>``, else of the only ``<article>``, else of the body; may add nothing.

    Args:
        text: the page.
        builder: takes the blocks.
        level: added to every heading's level, for pages that are part of a larger document.
    """
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(text)
    main = _main(tree.css("main, [role=main]")) or _main(tree.css("article")) or tree.body
    if main is None:
        return PageFacts("", {})
    named = _text_length(main, _AROUND) >= _LEAST_SHARE * _text_length(main, frozenset())
    reader = _Reader(builder, level)
    for edge, node in _walk(main, _AROUND if named else frozenset()):
        reader.take(edge, node)
    reader.flush()
    first = tree.css_first("main h1, article h1, h1")
    head = tree.css_first("head > title")
    title = _text_of(first) if first is not None else _text_of(head) if head is not None else ""
    return PageFacts(title, _facts(tree.css("head > meta[name]")))


def _main(found: list[LexborNode]) -> LexborNode | None:
    return found[0] if len(found) == 1 else None


def _facts(nodes: list[LexborNode]) -> dict[str, str]:
    wanted = {"author", "description", "date", "version", "status", "keywords"}
    facts = {(n.attributes.get("name") or "").lower(): squeeze(n.attributes.get("content") or "") for n in nodes}
    return {key: value[:1000] for key, value in facts.items() if key in wanted and value}


def _text_of(node: LexborNode) -> str:
    return squeeze("".join(n.text_content or "" for edge, n in _walk(node) if edge == "enter" and n.is_text_node))


def _text_length(root: LexborNode, around: frozenset[str]) -> int:
    texts = (node for edge, node in _walk(root, around) if edge == "enter" and node.is_text_node)
    return sum(len(squeeze(node.text_content or "")) for node in texts)


def _walk(root: LexborNode, around: frozenset[str] = frozenset()) -> Iterator[tuple[_Edge, LexborNode]]:
    """Enter and leave events in document order, without recursion: nesting may be as deep as the author likes."""
    stack: list[tuple[_Edge, LexborNode]] = [("enter", root)]
    while stack:
        edge, node = stack.pop()
        if edge == "leave":
            yield edge, node
            continue
        if node.is_element_node and (_is_dropped(node) or (around and node is not root and _names(node) & around)):
            continue
        yield edge, node
        stack.append(("leave", node))
        children: list[tuple[_Edge, LexborNode]] = []
        child = node.child
        while child is not None:
            children.append(("enter", child))
            child = child.next
        stack.extend(reversed(children))


def _is_dropped(node: LexborNode) -> bool:
    if node.tag in _DROPPED:
        return True
    attributes = node.attributes
    if not attributes:
        return False
    style = "".join((attributes.get("style") or "").split()).lower()
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or attributes.get("role") in _DROPPED_ROLES
        or _UNSEEN.search(style) is not None
    )


def _names(node: LexborNode) -> frozenset[str]:
    attributes = node.attributes
    return (
        _words(f"{attributes.get('class') or ''} {attributes.get('id') or ''}".lower()) if attributes else frozenset()
    )


class _Held(NamedTuple):
    """A cell that reaches into rows below its own."""

    rows: int
    """Rows that it still reaches into."""
    text: str
    since: int
    """Number of rows there were when it was last taken."""


_WIDEST = 200
"""Columns or rows that one cell may span: a page may write any number."""


def _number(node: LexborNode, name: str, *, least: int = 1) -> int:
    text = (node.attributes.get(name) or "").strip()
    return max(least, min(_WIDEST, int(text))) if text.isascii() and text.isdigit() and len(text) < 9 else 1


def _merged(rows: list[list[str]]) -> list[str]:
    """Several header rows as one: ``Price`` over ``Europe`` is ``Price Europe``."""
    width = max(map(len, rows))
    columns = [[row[at] for row in rows if at < len(row) and row[at]] for at in range(width)]
    return [" ".join(dict.fromkeys(names)) for names in columns]


class _Reader:
    """Gathers inline text and hands over a block at every block edge."""

    def __init__(self, builder: TextBuilder, level: int) -> None:
        self._builder = builder
        self._level = level
        self._text: list[str] = []
        self._heading = 0
        self._items = 0
        self._numbers: list[int | None] = []
        self._marker = ""
        self._pre = 0
        self._tables = 0
        self._rows: list[list[str]] = []
        self._headers: list[bool] = []
        """Of each row, whether all its cells are headers."""
        self._held: dict[int, _Held] = {}
        """Cells that reach into the next rows, by column."""
        self._cell: list[str] | None = None

    def take(self, edge: _Edge, node: LexborNode) -> None:
        if node.is_text_node:
            if edge == "enter":
                (self._text if self._cell is None else self._cell).append(node.text_content or "")
            return
        tag = node.tag or ""
        if tag == "br" and edge == "enter":
            (self._text if self._cell is None else self._cell).append("\n" if self._pre else " ")
        elif self._tables and tag != "table":
            self._in_table(edge, tag, node)
        elif tag in _BLOCKS or tag in _HEADINGS:
            self._edge(edge, tag, node)

    def flush(self) -> None:
        text, self._text = "".join(self._text), []
        if self._pre:
            self._builder.add("code", text)
            return
        text = squeeze(text)
        if not text:
            return
        if self._heading:
            self._builder.heading(text, self._heading + self._level)
            return
        kind: BlockKind = "list" if self._items else "paragraph"
        self._builder.add(kind, self._marker + text)
        self._marker = ""

    def _edge(self, edge: _Edge, tag: str, node: LexborNode) -> None:
        self.flush()
        step = 1 if edge == "enter" else -1
        if tag in _HEADINGS:
            self._heading = _HEADINGS[tag] if edge == "enter" else 0
        elif tag == "pre":
            self._pre += step
        elif tag in {"ul", "ol"}:
            if edge == "enter":
                self._numbers.append(_number(node, "start", least=0) if tag == "ol" else None)
            elif self._numbers:
                self._numbers.pop()
        elif tag in {"li", "dd", "dt"}:
            self._items += step
            self._marker = self._next_marker() if edge == "enter" and tag == "li" else ""
        elif tag == "table":
            self._table(edge)

    def _next_marker(self) -> str:
        if not self._numbers or self._numbers[-1] is None:
            return ""
        number = self._numbers[-1]
        self._numbers[-1] = number + 1
        return f"{number}. "

    def _table(self, edge: _Edge) -> None:
        self._tables += 1 if edge == "enter" else -1
        if self._tables == 0:
            self._end_row()
            heads = next((n for n, header in enumerate(self._headers) if not header), len(self._headers))
            has_header = 0 < heads < len(self._rows)
            rows = [_merged(self._rows[:heads]), *self._rows[heads:]] if has_header else self._rows
            self._builder.table(rows, has_header=has_header)
        elif edge == "enter" and self._tables == 1:
            self._rows, self._headers, self._held, self._cell = [], [], {}, None

    def _in_table(self, edge: _Edge, tag: str, node: LexborNode) -> None:
        if self._tables > 1:
            # A table inside a cell is read as that cell's text.
            if self._cell is not None and tag in {"td", "th", "tr"}:
                self._cell.append(" ")
        elif tag == "tr" and edge == "enter":
            self._end_row()
            self._rows.append([])
            self._headers.append(True)
        elif tag == "caption" and edge == "leave":
            self.flush()
        elif tag in {"td", "th"}:
            self._cell_edge(edge, tag, node)
        elif self._cell is not None and (tag in _BLOCKS or tag in _HEADINGS):
            self._cell.append(" ")

    def _cell_edge(self, edge: _Edge, tag: str, node: LexborNode) -> None:
        if edge == "enter":
            self._cell = []
        elif self._cell is not None:
            if not self._rows:
                self._rows.append([])
                self._headers.append(True)
            text, self._cell = squeeze("".join(self._cell)), None
            self._headers[-1] &= tag == "th"
            wide = _number(node, "colspan")
            row, deep = self._rows[-1], _number(node, "rowspan")
            # A header names every column it stands over; a value stands in the first of its columns.
            for piece in (text, *([text if tag == "th" else ""] * (wide - 1))):
                self._take_held()
                if deep > 1:
                    self._held[len(row)] = _Held(deep - 1, piece, len(self._rows))
                row.append(piece)

    def _take_held(self) -> None:
        """Cells of earlier rows that stand in the next columns of this one."""
        row = self._rows[-1]
        while (held := self._held.get(len(row))) is not None and held.since < len(self._rows):
            if held.rows > 1:
                self._held[len(row)] = held._replace(rows=held.rows - 1, since=len(self._rows))
            else:
                del self._held[len(row)]
            row.append(held.text)

    def _end_row(self) -> None:
        """Cells of earlier rows that stand behind the last one of this row."""
        if self._rows:
            self._take_held()
