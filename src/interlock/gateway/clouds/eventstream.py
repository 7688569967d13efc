"""AWS's binary event stream, `application/vnd.amazon.eventstream`.

A message is: total length, header length, CRC-32 of these eight bytes; headers; payload; CRC-32 of all before it. All
integers are big-endian. Source: "Event stream encoding", Amazon Transcribe and S3 Select developer guides.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["EventStreamError", "Frame", "FrameReader", "encode_frame"]

_PRELUDE = struct.Struct(">III")
_FIXED: Mapping[int, str] = {2: ">b", 3: ">h", 4: ">i", 5: ">q", 8: ">q"}


class EventStreamError(ValueError):
    """Bytes that are no event stream: a wrong checksum, a wrong length, an unknown header type."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    headers: Mapping[str, str | bytes | int | bool]
    payload: bytes

    def header(self, name: str) -> str:
        """A header as text, empty when it is not there."""
        value = self.headers.get(name, "")
        return value if isinstance(value, str) else ""


class FrameReader:
    """Cuts a byte stream into frames.

    Args:
        most_bytes: longest frame that is read.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._begun = bytearray()

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """Frames that `piece` completes. Raises: EventStreamError; OverflowError: a frame over the bound."""
        self._begun += piece
        while len(self._begun) >= _PRELUDE.size:
            total, headers, check = _PRELUDE.unpack_from(self._begun)
            if zlib.crc32(self._begun[:8]) != check:
                raise EventStreamError("the checksum of a prelude is wrong")
            if total > self._most_bytes:
                raise OverflowError("a frame is too long")
            if total < headers + 16:
                raise EventStreamError("a frame is shorter than its headers")
            if len(self._begun) < total:
                return
            whole = bytes(self._begun[:total])
            del self._begun[:total]
            if zlib.crc32(whole[:-4]) != int.from_bytes(whole[-4:], "big"):
                raise EventStreamError("the checksum of a frame is wrong")
            yield Frame(_headers(whole[12 : 12 + headers]), whole[12 + headers : -4])

    @property
    def inside(self) -> bool:
        """True when the stream ends in the middle of a frame."""
        return bool(self._begun)


def _headers(raw: bytes) -> dict[str, str | bytes | int | bool]:
    found: dict[str, str | bytes | int | bool] = {}
    at = 0
    try:
        while at < len(raw):
            length = raw[at]
            name = raw[at + 1 : at + 1 + length].decode()
            kind = raw[at + 1 + length]
            at += 2 + length
            if kind in {0, 1}:
                found[name] = kind == 0
            elif kind in _FIXED:
                found[name] = struct.unpack_from(_FIXED[kind], raw, at)[0]
                at += struct.calcsize(_FIXED[kind])
            elif kind in {6, 7}:
                (size,) = struct.unpack_from(">H", raw, at)
                value = raw[at + 2 : at + 2 + size]
                if len(value) != size:
                    raise EventStreamError("a header is cut off")
                found[name] = value.decode() if kind == 7 else value
                at += 2 + size
            elif kind == 9:
                found[name] = raw[at : at + 16]
                at += 16
            else:
                raise EventStreamError("a header is of an unknown type")
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise EventStreamError("the headers of a frame cannot be read") from error
    return found


def encode_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message with text headers."""
    raw = b"".join(
        bytes([len(name.encode())]) + name.encode() + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    head = struct.pack(">II", len(raw) + len(payload) + 16, len(raw))
    whole = head + struct.pack(">I", zlib.crc32(head)) + raw + payload
    return whole + struct.pack(">I", zlib.crc32(whole))
