"""XML of any vocabulary: titles as headings, running text as paragraphs, like records as rows, entities refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders._building import TextBuilder, squeeze
from interlock.knowledge.loaders._xml import local, parse_xml, walk
from interlock.knowledge.types import LoadedDocument

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["XmlLoader", "plugin"]

_TITLES = frozenset({"title", "head", "heading", "subject", "name", "h1", "h2", "h3"})
_MAX_DEPTH = 100
_MAX_ELEMENTS = 500_000
_LONG = 300


class XmlLoader:
    """Facts are read as ``tag: text``; attributes, comments and processing instructions are left out."""

    version = "xml/1"
    suffixes = frozenset({".xml"})
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        if not data.strip():
            raise InvalidInput(f"the file {name!r} is empty", param=name, code="empty_document")
        root = parse_xml(data, name)
        _check_size(root, name)
        builder = TextBuilder(name, "application/xml")
        _add(builder, root, 1)
        title = next((_text(e) for e in root if local(e).lower() in _TITLES and not len(e)), "")
        return builder.build(title=title)


def _check_size(root: Element, name: str) -> None:
    depth = count = 0
    for entering, _ in walk(root):
        depth += 1 if entering else -1
        count += entering
        if depth > _MAX_DEPTH or count > _MAX_ELEMENTS:
            raise TooLarge(
                f"the file {name!r} has more than {_MAX_ELEMENTS} elements or {_MAX_DEPTH} levels",
                param=name,
                hint="split it",
            )


def _add(builder: TextBuilder, element: Element, level: int) -> None:
    """Recursion is bounded: the depth was checked."""
    if not local(element):
        return
    if not len(element) or _is_mixed(element):
        _add_leaf(builder, element)
        return
    children = [child for child in element if local(child)]
    if children and local(children[0]).lower() in _TITLES and not len(children[0]):
        builder.heading(_text(children[0]), min(level, 9))
        children = children[1:]
    elif level > 1 and any(len(child) for child in children):
        builder.heading(local(element), min(level, 9))
    if _is_table(children):
        columns = list(dict.fromkeys(local(cell) for row in children for cell in row))
        rows = [[_cell(row, column) for column in columns] for row in children]
        builder.table([columns, *rows], has_header=True)
        return
    for child in children:
        _add(builder, child, level + 1)


def _add_leaf(builder: TextBuilder, element: Element) -> None:
    text = _text(element)
    tag = local(element)
    if _is_mixed(element) or len(text) > _LONG or tag.lower() in {"p", "para", "paragraph", "text", "body"}:
        builder.add("paragraph", text)
    elif text:
        builder.add("list", f"{tag}: {text}")


def _is_mixed(element: Element) -> bool:
    """Whether text stands between its children: a sentence with marked words."""
    return len(element) > 0 and bool((element.text or "").strip() or any((c.tail or "").strip() for c in element))


def _is_table(rows: list[Element]) -> bool:
    if len(rows) < 2 or len({local(row) for row in rows}) != 1:
        return False
    cells = [cell for row in rows for cell in row]
    if not cells or any(not len(row) or _is_mixed(row) for row in rows):
        return False
    if any(len(cell) or len(cell.text or "") > _LONG for cell in cells):
        return False
    columns = {local(cell) for cell in cells}
    return len(cells) >= 0.5 * len(columns) * len(rows) and all(
        len({local(cell) for cell in row}) == len(row) for row in rows
    )


def _cell(row: Element, column: str) -> str:
    return next((_text(cell) for cell in row if local(cell) == column), "")


def _text(element: Element) -> str:
    pieces: list[str] = []
    for entering, part in walk(element):
        if entering and local(part):
            pieces.append(part.text or "")
        elif not entering and part is not element:
            pieces.append(part.tail or "")
    return squeeze("".join(pieces))


plugin = XmlLoader()
