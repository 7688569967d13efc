"""Reading RTF: paragraphs with their style, list marks and table cells, out of groups and control words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from interlock.core.errors import InvalidInput
from interlock.knowledge.loaders._building import TextBuilder, looks_like_header, squeeze

__all__ = ["read_rtf"]

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z'])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)
_SKIPPED = frozenset(
    b"""
    annotation atnauthor atnid colortbl comment datafield datastore filetbl fldinst fonttbl footer footerf
    footerl footerr footnote generator header headerf headerl headerr info listoverridetable listtable listtext
    nonshppict objdata object pict pntext private revtbl rsidtbl shpinst stylesheet template themedata tc xe
    """.split()
)
_SPOKEN: dict[bytes, str] = {
    b"tab": "\t",
    b"line": "\n",
    b"emdash": "—",
    b"endash": "–",
    b"emspace": " ",
    b"enspace": " ",
    b"bullet": "•",
    b"lquote": "‘",
    b"rquote": "’",
    b"ldblquote": "“",
    b"rdblquote": "”",
}
_CHARSETS = {128: "cp932", 129: "cp949", 134: "gb18030", 136: "cp950", 161: "cp1253", 162: "cp1254", 163: "cp1258"} | {
    177: "cp1255",
    178: "cp1256",
    186: "cp1257",
    204: "cp1251",
    222: "cp874",
    238: "cp1250",
    0: "cp1252",
}
_MAX_GROUPS = 10_000
_HEADING = re.compile(r"(?:heading|überschrift|titre|título|titolo) ?(\d)\b", re.IGNORECASE)


class _State(NamedTuple):
    """What a group inherits and its end restores."""

    skipped: bool = False
    encoding: str = ""
    unicode_skip: int = 1
    hidden: bool = False


def read_rtf(data: bytes, name: str, builder: TextBuilder) -> str:
    """Add the body to `builder`; gives the title of the document's properties, if any.

    Raises: InvalidInput: no RTF, or nested beyond reason.
    """
    if not data.lstrip()[:5].lower() == b"{\\rtf":
        raise InvalidInput(f"the file {name!r} is no RTF", param=name, code="damaged_document")
    reader = _Reader(data, name, builder)
    reader.read(data)
    return squeeze(_property(data, b"title", reader.code_page))


def _property(data: bytes, key: bytes, encoding: str) -> str:
    found = re.search(rb"\{\\info.{0,4000}?\{\\" + key + rb" ([^{}\\]{1,500})\}", data, re.DOTALL)
    return found.group(1).decode(encoding, "replace") if found else ""


class _Reader:
    def __init__(self, data: bytes, name: str, builder: TextBuilder) -> None:
        self._name = name
        self._builder = builder
        found = re.search(rb"\\ansicpg(\d{1,5})", data[:4096])
        self.code_page = _known(f"cp{int(found.group(1))}" if found else "cp1252")
        self._fonts = _fonts(data)
        self._levels = _heading_styles(data, self.code_page)
        self._state = _State(encoding=self.code_page)
        self._stack: list[_State] = []
        self._text: list[str] = []
        self._bytes = bytearray()
        self._ignored = 0
        self._surrogate = ""
        self._level = 0
        self._listed = False
        self._in_table = False
        self._rows: list[list[str]] = []
        self._row: list[str] = []

    def read(self, data: bytes) -> None:
        at = 0
        while found := _TOKEN.search(data, at):
            at = found.end()
            word, number, code, symbol, brace, text = found.groups()
            if word is not None:
                self._flush_bytes()
                value = int(number) if number is not None else None
                if word == b"bin":
                    at += max(value or 0, 0)  # raw bytes, which may hold braces
                self._control(word, value)
            elif code is not None:
                self._byte(int(code, 16))
            elif symbol is not None:
                self._flush_bytes()
                self._symbol(symbol)
            elif brace is not None:
                self._flush_bytes()
                self._group(brace)
            elif text is not None:
                self._plain(text)
        self._flush_bytes()
        self._paragraph()
        self._end_table()

    def _group(self, brace: bytes) -> None:
        if brace == b"{":
            if len(self._stack) >= _MAX_GROUPS:
                raise InvalidInput(
                    f"the file {self._name!r} is nested deeper than {_MAX_GROUPS} groups",
                    param=self._name,
                    code="hostile_document",
                )
            self._stack.append(self._state)
        elif self._stack:
            self._state = self._stack.pop()
        self._ignored = 0

    def _symbol(self, symbol: bytes) -> None:
        if symbol == b"*":
            self._state = self._state._replace(skipped=True)
        elif symbol in {b"~", b"\r", b"\n", b"\t"}:
            self._say(" " if symbol != b"\n" else "\n")
        elif symbol == b"_":
            self._say("-")
        elif symbol in {b"\\", b"{", b"}"}:
            self._say(symbol.decode())

    def _control(self, word: bytes, number: int | None) -> None:
        if word in _SKIPPED:
            if word in {b"pntext", b"listtext"}:
                self._listed = True
            self._state = self._state._replace(skipped=True)
        elif self._state.skipped:
            return
        elif word == b"u" and number is not None:
            self._unicode(number)
        elif word == b"uc":
            self._state = self._state._replace(unicode_skip=min(max(number or 0, 0), 8))
        elif word == b"f" and number is not None:
            self._state = self._state._replace(encoding=self._fonts.get(number, self.code_page))
        elif word == b"v":
            self._state = self._state._replace(hidden=number != 0)
        elif word in _SPOKEN:
            self._say(_SPOKEN[word])
        else:
            self._layout(word, number)

    def _layout(self, word: bytes, number: int | None) -> None:
        match word:
            case b"par" | b"sect" | b"page":
                self._paragraph()
            case b"pard":
                self._new_paragraph()
            case b"intbl":
                self._in_table = True
            case b"s" if number is not None:
                self._level = self._levels.get(number, self._level)
            case b"outlinelevel" if number is not None and 0 <= number < 9:
                self._level = number + 1
            case b"ls" | b"ilvl":
                self._listed = True
            case b"cell":
                self._row.append(squeeze(self._taken()))
            case b"row":
                if any(self._row):
                    self._rows.append(self._row)
                self._row = []
            case _:
                pass

    def _new_paragraph(self) -> None:
        self._level = 0
        self._listed = False
        self._in_table = False

    def _paragraph(self) -> None:
        if self._in_table or self._row:
            self._say(" ")  # a paragraph's end inside a cell
            return
        text = squeeze(self._taken())
        if not text:
            return
        self._end_table()
        if self._level:
            self._builder.heading(text, self._level)
        else:
            self._builder.add("list" if self._listed else "paragraph", text)

    def _end_table(self) -> None:
        rows, self._rows = self._rows, []
        self._builder.table(rows, has_header=looks_like_header(rows))

    def _taken(self) -> str:
        text, self._text = "".join(self._text), []
        return text

    def _say(self, text: str) -> None:
        if not self._state.skipped and not self._state.hidden:
            self._text.append(text)

    def _unicode(self, number: int) -> None:
        code = number + 65536 if number < 0 else number
        self._ignored = self._state.unicode_skip
        if 0xD800 <= code < 0xDC00:
            self._surrogate = chr(code)
        elif 0xDC00 <= code < 0xE000 and self._surrogate:
            pair = (self._surrogate + chr(code)).encode("utf-16", "surrogatepass")
            self._surrogate = ""
            self._say(pair.decode("utf-16", "replace"))
        elif 0 < code < 0x110000 and not 0xD800 <= code < 0xE000:
            self._say(chr(code))

    def _byte(self, value: int) -> None:
        if self._ignored:
            self._ignored -= 1
        else:
            self._bytes.append(value)

    def _plain(self, text: bytes) -> None:
        if self._ignored:
            cut = min(self._ignored, len(text))
            self._ignored -= cut
            text = text[cut:]
        self._bytes += text

    def _flush_bytes(self) -> None:
        """Bytes are decoded together: a character of an East Asian code page has two of them."""
        if self._bytes:
            self._say(self._bytes.decode(self._state.encoding or self.code_page, "replace"))
            self._bytes.clear()


def _known(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError:
        return "cp1252"
    return encoding


def _destination(data: bytes, start: bytes) -> bytes:
    """The group that begins with `start`, by counting braces."""
    at = data.find(start)
    depth = 0
    for found in _braces(data, at) if at >= 0 else ():
        depth += 1 if found.group() == b"{" else -1
        if depth == 0:
            return data[at : found.end()]
    return b""


def _braces(data: bytes, at: int) -> Iterator[re.Match[bytes]]:
    return re.compile(rb"(?<!\\)[{}]").finditer(data, at, at + 2_000_000)


def _fonts(data: bytes) -> dict[int, str]:
    """Encoding of each font that states one of another script than the document's own."""
    table = _destination(data, b"{\\fonttbl")
    found: dict[int, str] = {}
    for font, charset in re.findall(rb"\\f(\d{1,5})(?:\\[a-z]+-?\d*)*?\\fcharset(\d{1,3})", table):
        if int(charset) in _CHARSETS and int(charset) != 0:
            found[int(font)] = _CHARSETS[int(charset)]
    return found


def _heading_styles(data: bytes, encoding: str) -> dict[int, int]:
    """Level of each style that is called a heading."""
    levels: dict[int, int] = {}
    for style in re.finditer(rb"\{\\s(\d{1,5})([^{}]{0,2000})\}", _destination(data, b"{\\stylesheet")):
        words = style.group(2).decode(encoding, "replace")
        if found := _HEADING.search(words):
            levels[int(style.group(1))] = int(found.group(1))
        elif words.rpartition(" ")[2].strip(" ;").lower() == "title":
            levels[int(style.group(1))] = 1
    return levels
