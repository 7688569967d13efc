"""OpenDocument text, sheets and slides, read from their ``content.xml``."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders._archives import check_archive, member
from interlock.knowledge.loaders._building import TextBuilder, looks_like_header, squeeze
from interlock.knowledge.loaders._xml import attribute, child_text, local, parse_xml, walk
from interlock.knowledge.types import LoadedDocument, PageNote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

__all__ = ["OdfLoader", "plugin"]

_TYPES = {
    "text": "application/vnd.oasis.opendocument.text",
    "spreadsheet": "application/vnd.oasis.opendocument.spreadsheet",
    "presentation": "application/vnd.oasis.opendocument.presentation",
}
_LEFT_OUT = frozenset({"tracked-changes", "annotation", "note-citation", "table-of-content", "forms", "sequence-decls"})
_MAX_ROWS = 200_000
_MAX_COLUMNS = 500
_MAX_SPACES = 200


class OdfLoader:
    """Headings by their outline level; sheets and slides are headings and pages. Notes follow their paragraph.

    Comments, changes, and hidden sheets, columns and rows are left out; what a filter folds away is read.
    """

    version = "odf/2"
    suffixes = frozenset({".odt", ".ods", ".odp", ".ott", ".ots", ".otp"})
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        check_archive(data, name)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if "META-INF/manifest.xml" in names and b"encryption-data" in archive.read("META-INF/manifest.xml"):
                raise InvalidInput(
                    f"the file {name!r} is encrypted",
                    param=name,
                    code="encrypted_document",
                    hint="save it without password",
                )
            content = parse_xml(member(archive, "content.xml", name), name)
            meta = parse_xml(archive.read("meta.xml"), name) if "meta.xml" in names else None
        kind = next((local(part) for body in content if local(body) == "body" for part in body), "")
        if kind not in _TYPES:
            raise InvalidInput(
                f"the file {name!r} is no OpenDocument text, sheet or slides", param=name, code="damaged_document"
            )
        reader = _Reader(TextBuilder(name, _TYPES[kind]), kind, name)
        reader.unseen_tables = frozenset(_unseen_tables(content))
        reader.read(next(body for body in content if local(body) == "body"))
        title = squeeze(child_text(meta, "title")) if meta is not None else ""
        author = squeeze(child_text(meta, "creator"))[:1000] if meta is not None else ""
        if kind == "spreadsheet" and not title:
            title = name.rpartition("/")[2].rpartition(".")[0]
        return reader.builder.build(
            title=title,
            metadata={"author": author} if author else {},
            pages=reader.page or None,
            notes=[PageNote(page, "hidden_text", 0.0) for page in sorted(reader.folded)],
        )


def _unseen_tables(content: Element) -> Iterator[str]:
    """Names of styles whose sheets are not shown."""
    for style in content.iter():
        if local(style) == "style" and any(
            local(part) == "table-properties" and attribute(part, "display") == "false" for part in style
        ):
            yield attribute(style, "name")


class _Reader:
    """Takes the events of the walk; rows are collected until their table ends."""

    def __init__(self, builder: TextBuilder, kind: str, name: str) -> None:
        self.builder = builder
        self.page = 0
        self._kind = kind
        self._name = name
        self._texts: list[list[str]] = [[]]
        """Of the open paragraphs: a frame inside one has paragraphs of its own. The first takes what is outside."""
        self._lists = 0
        self._tables = 0
        self._rows: list[list[str]] = []
        self._row: list[str] = []
        self._cell: list[str] = []
        self._titled = True
        self._in_title = False
        self._count = 0
        self._notes: list[list[str]] = []
        """Of the open notes, their paragraphs."""
        self._waiting: list[str] = []
        """Notes of the open paragraph: they follow it."""
        self._columns: list[bool] = []
        """Of the open table: which columns are hidden."""
        self.unseen_tables: frozenset[str] = frozenset()
        self.folded: set[int] = set()
        """Pages with hidden columns or rows."""

    def read(self, body: Element) -> None:
        unseen: Element | None = None
        for entering, element in walk(body, skip=_LEFT_OUT):
            tag = local(element)
            if unseen is None and tag == "table" and attribute(element, "style-name") in self.unseen_tables:
                unseen = element
            if unseen is not None:
                if element is unseen and not entering:
                    unseen = None
                continue
            if tag not in _LEFT_OUT:
                (self._enter if entering else self._leave)(tag, element)
            if not entering and element.tail:
                self._texts[-1].append(element.tail)

    def _enter(self, tag: str, element: Element) -> None:
        if tag in {"h", "p"}:
            self._texts.append([])
        elif tag == "note":
            self._notes.append([])
        elif tag == "table-column" and self._tables == 1:
            times = _repeats(element, "number-columns-repeated", _MAX_COLUMNS)
            self._columns += [attribute(element, "visibility") == "collapse"] * times
        elif tag == "list":
            self._lists += 1
        elif tag == "page":
            self.page += 1
            self._titled = False
        elif tag == "frame" and attribute(element, "class") == "title":
            self._in_title = True
        elif tag == "table":
            self._tables += 1
            if self._tables == 1:
                self._rows = []
                self._columns = []
                if self._kind == "spreadsheet":
                    self.page += 1
        elif tag == "table-row" and self._tables == 1:
            self._row = []
        elif tag in {"table-cell", "covered-table-cell"} and self._tables == 1:
            self._cell = []
        if tag == "s":
            self._texts[-1].append(" " * _repeats(element, "c", _MAX_SPACES))
        elif tag in {"tab", "line-break"}:
            self._texts[-1].append(" ")
        if element.text:
            self._texts[-1].append(element.text)

    def _leave(self, tag: str, element: Element) -> None:
        if tag == "list":
            self._lists -= 1
        elif tag == "frame":
            self._in_title = False
        elif tag == "note":
            self._waiting += self._notes.pop()
        elif tag in {"h", "p"}:
            self._paragraph(tag, element)
        elif tag in {"table-cell", "covered-table-cell"} and self._tables == 1:
            shown = squeeze(" ".join(self._cell)) or attribute(element, "value")
            times = _repeats(element, "number-columns-repeated", _MAX_COLUMNS)
            self._row.extend([shown] * (times if shown else min(times, _MAX_COLUMNS - len(self._row))))
        elif tag == "table-row" and self._tables == 1:
            self._end_row(element)
        elif tag == "table":
            self._tables -= 1
            if self._tables == 0:
                self._end_table(element)

    def _paragraph(self, tag: str, element: Element) -> None:
        text = squeeze("".join(self._texts.pop()))
        if self._notes:
            self._notes[-1].append(text)
            return
        notes, self._waiting = self._waiting, []
        if text:
            self._add(tag, element, text)
        for note in notes:
            self._add("p", element, note)

    def _add(self, tag: str, element: Element, text: str) -> None:
        if not self._titled:
            self._titled = True
            if not self._in_title:
                self.builder.heading(f"Slide {self.page}", 1, page=self.page)
        if self._tables:
            self._cell.append(text)
        elif self._in_title:
            self.builder.heading(text, 1, page=self.page or None)
        elif tag == "h":
            level = attribute(element, "outline-level")
            self.builder.heading(text, int(level) if level.isdecimal() else 1, page=self.page or None)
        else:
            self.builder.add("list" if self._lists else "paragraph", text, page=self.page or None)

    def _end_row(self, element: Element) -> None:
        if any(self._columns):
            hidden = [*self._columns, *[False] * len(self._row)]
            kept = [cell for cell, off in zip(self._row, hidden, strict=False) if not off]
            self.folded |= {self.page} if len([*filter(None, kept)]) < len([*filter(None, self._row)]) else set()
            self._row = kept
        while self._row and not self._row[-1]:
            self._row.pop()
        if not self._row:
            return
        if attribute(element, "visibility") == "collapse":
            self.folded.add(self.page)
            return
        times = _repeats(element, "number-rows-repeated", _MAX_ROWS)
        self._count += times
        if self._count > _MAX_ROWS or len(self._row) > _MAX_COLUMNS:
            raise TooLarge(
                f"the tables of {self._name!r} have more than {_MAX_ROWS} rows or {_MAX_COLUMNS} columns",
                param=self._name,
                hint="split it",
            )
        self._rows.extend([self._row] * times)

    def _end_table(self, element: Element) -> None:
        if not self._rows:
            return
        if self._kind == "spreadsheet":
            self.builder.heading(attribute(element, "name") or f"Sheet {self.page}", 1, page=self.page)
        self.builder.table(self._rows, has_header=looks_like_header(self._rows), page=self.page or None)


def _repeats(element: Element, name: str, most: int) -> int:
    times = attribute(element, name)
    return min(int(times), most) if times.isdecimal() and len(times) < 10 and int(times) else 1


plugin = OdfLoader()
