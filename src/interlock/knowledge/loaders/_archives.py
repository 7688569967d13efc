"""Zip containers are measured before anything is read from them."""

from __future__ import annotations

import io
import re
import zipfile

from interlock.core.errors import InvalidInput, TooLarge

__all__ = ["OLE", "check_archive", "member"]

OLE = b"\xd0\xcf\x11\xe0"
"""A password turns the zip of an office file into an OLE container, which old office files are too."""

_MAX_MEMBERS = 5_000
_MAX_TOTAL = 512 * 1024 * 1024
_MAX_RATIO = 200
_RATIO_FLOOR = 1024 * 1024
"""Small members may compress as well as they like."""
_STEP = 256 * 1024
_MAX_PROLOG = 64 * 1024
"""Of an XML file before its first element."""
_PROLOG = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff|\s+|<\?.*?\?>|<!--.*?-->)*", re.DOTALL)
_ENCRYPTED = 0x1


def check_archive(data: bytes, name: str) -> None:
    """Refuse archives that unpack to far more than they are, names that leave the archive, and XML with entities.

    Sizes are counted while unpacking: the directory of a hostile archive lies.
    Raises: InvalidInput, TooLarge.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_members(archive, len(data), name)
    except InvalidInput:
        raise
    except Exception as error:
        # zipfile, zlib and lzma raise errors of no common base on damaged data.
        raise InvalidInput(
            f"the file {name!r} is damaged", param=name, code="damaged_document", hint="save it again"
        ) from error


def _check_members(archive: zipfile.ZipFile, size: int, name: str) -> None:
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise _bomb(name)
    total = 0
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        if member.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            raise InvalidInput(f"the file {name!r} names a path outside itself", param=name, code="hostile_document")
        if member.flag_bits & _ENCRYPTED:
            raise InvalidInput(f"the file {name!r} is encrypted", param=name, code="encrypted_document")
        unpacked = 0
        head = b""
        with archive.open(member) as stream:
            while piece := stream.read(_STEP):
                head = head if len(head) >= _MAX_PROLOG else head + piece[:_MAX_PROLOG]
                unpacked += len(piece)
                if total + unpacked > _MAX_TOTAL or unpacked > max(_RATIO_FLOOR, _MAX_RATIO * member.compress_size):
                    raise _bomb(name)
        total += unpacked
        if total > max(_RATIO_FLOOR, _MAX_RATIO * size):
            raise _bomb(name)
        if member.filename.lower().endswith((".xml", ".rels")) and _declares(head):
            raise InvalidInput(f"the file {name!r} declares XML entities", param=name, code="hostile_document")


def _declares(head: bytes) -> bool:
    """Whether XML has a document type, or so much before its first element that one may stand there."""
    # In UTF-16 and UTF-32 every other byte, or three of four, are none of the tag.
    text = head.replace(b"\0", b"")
    prolog = _PROLOG.match(text)
    rest = text[prolog.end() if prolog is not None else 0 :]
    if rest[:9].upper() == b"<!DOCTYPE":
        return True
    return len(head) >= _MAX_PROLOG and (not rest or rest.startswith((b"<!", b"<?")))


def member(archive: zipfile.ZipFile, path: str, name: str) -> bytes:
    """One member of an archive that was checked. Raises: InvalidInput: there is none of this path."""
    try:
        return archive.read(path)
    except KeyError as error:
        raise InvalidInput(f"the file {name!r} lacks its part {path!r}", param=name, code="damaged_document") from error


def _bomb(name: str) -> TooLarge:
    return TooLarge(f"the file {name!r} unpacks to far more than its size", param=name, code="archive_too_large")
