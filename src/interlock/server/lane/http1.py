"""Reading an upstream's HTTP/1.1 answer: strict where two readers could disagree, and never more than is bounded."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

__all__ = ["MAX_HEAD_BYTES", "Chunked", "Head", "Malformed", "parse_head"]

MAX_HEAD_BYTES = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n\x00]*)?\r\n")
# Possessive: nothing that was matched is ever tried another way.
_FIELDS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\r\n\x00]*+\r\n)*+")
_DIGITS = re.compile(rb"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,7})[ \t]*(?:;[^\r\n\x00]*)?")
_is_hex = re.compile(rb"[0-9A-Fa-f]{1,7}").fullmatch
_MAX_SIZE_LINE = 1024
_MAX_TRAILER_BYTES = 8 * 1024


class Malformed(Exception):
    """The upstream does not speak HTTP as it must; its connection cannot be used again."""


class Head(NamedTuple):
    """What matters of an answer's head."""

    status: int
    framing: Literal["length", "chunked", "close"]
    """How the body ends."""
    length: int
    """Bytes of the body when the framing is `length`."""
    keep_alive: bool
    kind: bytes
    """Media type without parameters, in lower case; empty when there is none."""
    fields: bytes
    """Header lines in lower case, each ending with CRLF, with one CRLF before the first."""

    def field(self, name: bytes) -> bytes | None:
        """Value of a header (its name in lower case), None when it is absent. Raises: Malformed: it comes twice."""
        return _field(self.fields, name)

    def mapping(self) -> dict[str, str]:
        """All headers, for a refusal to be read; of a repeated one the last."""
        pairs = (line.partition(b":") for line in self.fields.split(b"\r\n") if line)
        return {name.decode("latin-1"): value.strip().decode("latin-1") for name, _, value in pairs}


def _field(fields: bytes, name: bytes) -> bytes | None:
    mark = b"\r\n" + name + b":"
    at = fields.find(mark)
    if at < 0:
        return None
    if fields.find(mark, at + 1) >= 0:
        raise Malformed(f"two {name.decode()} headers")
    return fields[at + len(mark) : fields.index(b"\r\n", at + 2)].strip(b" \t")


def parse_head(data: bytes, end: int) -> Head:
    """Read a head that ends before the empty line at `end` (the offset of its CRLF CRLF).

    Raises: Malformed: anything that two readers could read differently.
    """
    started = _STATUS.match(data)
    if started is None:
        raise Malformed("no status line")
    block = data[started.end() : end + 2] if end + 2 > started.end() else b""
    if _FIELDS.fullmatch(block) is None:
        raise Malformed("a header line that is none")
    fields = b"\r\n" + block.lower()
    status = int(started[2])
    length = _field(fields, b"content-length")
    coding = _field(fields, b"transfer-encoding") if b"\r\ntransfer-encoding:" in fields else None
    if b"\r\ncontent-encoding:" in fields and _field(fields, b"content-encoding") not in {b"", b"identity"}:
        raise Malformed("a compressed body that was not asked for")
    keep_alive = started[1] == b"1"
    if b"\r\nconnection:" in fields and b"close" in (_field(fields, b"connection") or b""):
        keep_alive = False
    kind = _field(fields, b"content-type") or b""
    if b";" in kind:
        kind = kind.partition(b";")[0].strip()
    if coding is not None:
        if length is not None or coding != b"chunked" or started[1] == b"0":
            raise Malformed("a body framed in two ways")
        return Head(status, "chunked", 0, keep_alive, kind, fields)
    if length is not None:
        if _DIGITS.fullmatch(length) is None:
            raise Malformed("a content-length that is no number")
        return Head(status, "length", int(length), keep_alive, kind, fields)
    if status in {204, 304} or status < 200:
        return Head(status, "length", 0, keep_alive, kind, fields)
    return Head(status, "close", 0, False, kind, fields)


class Chunked:
    """Takes the frames off a chunked body, however its bytes are cut."""

    __slots__ = ("_left", "_line", "_seen", "_state", "done")

    def __init__(self) -> None:
        self._state = 0
        """0 a size line, 1 data, 2 the CRLF after data, 3 trailer lines."""
        self._left = 0
        self._line = b""
        self._seen = 0
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """(payload, how many bytes of `data` belong to this body). Raises: Malformed."""
        if self._state == 0 and not self._line:
            # Servers send a chunk at once: nearly always this is one, whole.
            stop = data.find(b"\r\n", 0, 9)
            size = data[:stop] if stop > 0 else b""
            if data.endswith(b"\r\n") and _is_hex(size):
                length = int(size, 16)
                if length and len(data) == stop + length + 4:
                    return data[stop + 2 : -2], len(data)
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._state == 1:
                take = min(self._left, end - at)
                pieces.append(data[at : at + take])
                at += take
                self._left -= take
                if self._left == 0:
                    self._state, self._left = 2, 2
            elif self._state == 2:
                take = min(self._left, end - at)
                if data[at : at + take] != b"\r\n"[2 - self._left : 2 - self._left + take]:
                    raise Malformed("a chunk longer than it said")
                at += take
                self._left -= take
                if self._left == 0:
                    self._state = 0
            else:
                stop = data.find(b"\n", at)
                if stop < 0:
                    self._line += data[at:]
                    at = end
                    if len(self._line) > _MAX_SIZE_LINE:
                        raise Malformed("a chunk's size line without end")
                    break
                line = self._line + data[at:stop]
                self._line = b""
                at = stop + 1
                if not line.endswith(b"\r") or len(line) > _MAX_SIZE_LINE:
                    raise Malformed("a chunk line without its CRLF")
                if self._state == 0:
                    self._size(line[:-1])
                elif line == b"\r":
                    self.done = True
                    break
                else:
                    self._seen += len(line)
                    if self._seen > _MAX_TRAILER_BYTES:
                        raise Malformed("trailers without end")
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), at

    def _size(self, line: bytes) -> None:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise Malformed("a chunk size that is no number")
        self._left = int(match[1], 16)
        self._state = 1 if self._left else 3
