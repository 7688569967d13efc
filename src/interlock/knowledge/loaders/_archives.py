"""Zip containers are measured before anything is read from them."""

from __future__ import annotations

import io
import zipfile

from interlock.core.errors import InvalidInput, TooLarge

__all__ = ["check_archive"]

_MAX_MEMBERS = 5_000
_MAX_TOTAL = 512 * 1024 * 1024
_MAX_RATIO = 200
_RATIO_FLOOR = 1024 * 1024
"""Small members may compress as well as they like."""
_STEP = 256 * 1024
_ENCRYPTED = 0x1


def check_archive(data: bytes, name: str) -> None:
    """Refuse archives that unpack to far more than they are, and XML that declares entities.

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
        if member.flag_bits & _ENCRYPTED:
            raise InvalidInput(f"the file {name!r} is encrypted", param=name, code="encrypted_document")
        unpacked = 0
        head = b""
        with archive.open(member) as stream:
            while piece := stream.read(_STEP):
                head = head or piece[:4096]
                unpacked += len(piece)
                if total + unpacked > _MAX_TOTAL or unpacked > max(_RATIO_FLOOR, _MAX_RATIO * member.compress_size):
                    raise _bomb(name)
        total += unpacked
        if total > max(_RATIO_FLOOR, _MAX_RATIO * size):
            raise _bomb(name)
        if member.filename.lower().endswith((".xml", ".rels")) and b"<!" in head and b"<!DOCTYPE" in head.upper():
            raise InvalidInput(f"the file {name!r} declares XML entities", param=name, code="hostile_document")


def _bomb(name: str) -> TooLarge:
    return TooLarge(f"the file {name!r} unpacks to far more than its size", param=name, code="archive_too_large")
