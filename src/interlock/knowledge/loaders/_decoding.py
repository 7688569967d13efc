"""Bytes to text for formats that state no encoding."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders._building import clean

__all__ = ["MAX_TEXT_BYTES", "decode"]

MAX_TEXT_BYTES = 32 * 1024 * 1024
"""Text files above this are data sets, not documents."""

_SAMPLE = 65_536
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC = (
    b"%PDF-",
    b"PK\x03\x04",
    b"\x7fELF",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"\x1f\x8b",
    b"MZ\x90",
    b"\xd0\xcf\x11\xe0",
)
_SPECIAL = re.compile(rb"[\x80-\xff]")
_CONTROL = frozenset(range(32)) - {9, 10, 12, 13, 27}


def decode(data: bytes, name: str, *, declared: str = "") -> str:
    """Text of `data`: by byte-order mark, as UTF-8, else as it says of itself, else by detection; cleaned.

    Args:
        declared: the encoding that the content names; one that is unknown, or wrong, is passed over.

    Raises: InvalidInput: empty, or binary; TooLarge.
    """
    if len(data) > MAX_TEXT_BYTES:
        raise TooLarge(
            f"the text file {name!r} has {len(data)} bytes, more than {MAX_TEXT_BYTES}", param=name, hint="split it"
        )
    if not data.strip():
        raise InvalidInput(f"the file {name!r} is empty", param=name, code="empty_document")
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return clean(data.decode(encoding, errors="replace"))
    _refuse_binary(data, name)
    try:
        return clean(data.decode("utf-8"))
    except UnicodeDecodeError:
        pass
    if declared:
        with suppress(LookupError, UnicodeError):
            return clean(data.decode(declared))
    return clean(_detected(data, name))


def _refuse_binary(data: bytes, name: str) -> None:
    sample = data[:_SAMPLE]
    control = sum(byte in _CONTROL for byte in sample)
    if data.startswith(_MAGIC) or control > len(sample) // 50 + 2:
        raise InvalidInput(
            f"the file {name!r} is binary, not text", param=name, code="not_text", hint="check its suffix"
        )


def _detected(data: bytes, name: str) -> str:
    from charset_normalizer import from_bytes

    # Before its first special letter a text says nothing about its encoding.
    first = next(special.start() for special in _SPECIAL.finditer(data))
    start = data.rfind(b"\n", max(0, first - _SAMPLE // 4), first) + 1 or max(0, first - _SAMPLE // 4)
    best = from_bytes(data[start : start + _SAMPLE]).best()
    if best is None:
        raise InvalidInput(
            f"the encoding of {name!r} cannot be told", param=name, code="not_text", hint="save it as UTF-8"
        )
    return data.decode(best.encoding, errors="replace")
