"""Reading HTML into a document that is being built: the main content, without navigation, scripts and hidden parts."""

from __future__ import annotations

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
    reader = _Reader(builder, level)
    for edge, node in _walk(main):
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


def _walk(root: LexborNode) -> Iterator[tuple[_Edge, LexborNode]]:
    """Enter and leave events in document order, without recursion: nesting may be as deep as the author likes."""
    stack: list[tuple[_Edge, LexborNode]] = [("enter", root)]
    while stack:
        edge, node = stack.pop()
        if edge == "leave":
            yield edge, node
            continue
        if node.is_element_node and _is_dropped(node):
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
    style = (attributes.get("style") or "").replace(" ", "").lower()
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or attributes.get("role") in _DROPPED_ROLES
        or "display:none" in style
        or "visibility:hidden" in style
    )


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
        self._header_cells = 0
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
            self._in_table(edge, tag)
        elif tag in _BLOCKS or tag in _HEADINGS:
            self._edge(edge, tag)

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

    def _edge(self, edge: _Edge, tag: str) -> None:
        self.flush()
        step = 1 if edge == "enter" else -1
        if tag in _HEADINGS:
            self._heading = _HEADINGS[tag] if edge == "enter" else 0
        elif tag == "pre":
            self._pre += step
        elif tag in {"ul", "ol"}:
            if edge == "enter":
                self._numbers.append(1 if tag == "ol" else None)
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
            width = len(self._rows[0]) if self._rows else 0
            self._builder.table(self._rows, has_header=0 < width == self._header_cells and len(self._rows) > 1)
        elif edge == "enter" and self._tables == 1:
            self._rows, self._header_cells, self._cell = [], 0, None

    def _in_table(self, edge: _Edge, tag: str) -> None:
        if self._tables > 1:
            # A table inside a cell is read as that cell's text.
            if self._cell is not None and tag in {"td", "th", "tr"}:
                self._cell.append(" ")
        elif tag == "tr" and edge == "enter":
            self._rows.append([])
        elif tag == "caption" and edge == "leave":
            self.flush()
        elif tag in {"td", "th"}:
            self._cell_edge(edge, tag)
        elif self._cell is not None and (tag in _BLOCKS or tag in _HEADINGS):
            self._cell.append(" ")

    def _cell_edge(self, edge: _Edge, tag: str) -> None:
        if edge == "enter":
            self._cell = []
        elif self._cell is not None:
            if not self._rows:
                self._rows.append([])
            self._rows[-1].append(squeeze("".join(self._cell)))
            self._header_cells += tag == "th" and len(self._rows) == 1
            self._cell = None
