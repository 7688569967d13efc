"""Which loader reads a file: its suffix says so, unless there is none or the content says otherwise.

The content is asked in two steps. A signature in the first bytes is enough for what bears its format's suffix; only
where that is missing or wrong a small model (magika, in its wheel) tells what the bytes are.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from interlock.core.errors import InvalidInput
from interlock.knowledge.extras import needs_extra
from interlock.knowledge.loaders import find_loader, loaders

if TYPE_CHECKING:
    from magika import Magika

__all__ = ["HEAD_BYTES", "loader_for", "loader_of_unnamed"]

HEAD_BYTES = 64 * 1024
"""What is read of a file without a known suffix before it is read whole."""

_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"RIFF", b"BM", b"GIF8")
_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "pdf": (b"%PDF-",),
    # With a password an office file is an OLE container: its loader says so.
    "docx": (_ZIP, _OLE),
    "xlsx": (_ZIP, _OLE),
    "pptx": (_ZIP, _OLE),
    "odf": (_ZIP,),
    "epub": (_ZIP,),
    "msg": (_OLE,),
    "rtf": (b"{\\rtf",),
    "image": _PICTURES,
}
_TEXTS = frozenset({"markdown", "html", "text", "csv", "json", "xml", "code", "notebook", "eml", "mbox"})
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
"""Byte-order marks: UTF-16 has NUL bytes and is text all the same."""
_LABELS: dict[str, str] = {
    "pdf": "pdf",
    "docx": "docx",
    "xlsx": "xlsx",
    "pptx": "pptx",
    "odt": "odf",
    "ods": "odf",
    "odp": "odf",
    "epub": "epub",
    "rtf": "rtf",
    "outlook": "msg",
    "eml": "eml",
    "html": "html",
    "markdown": "markdown",
    "csv": "csv",
    "tsv": "csv",
    "json": "json",
    "jsonl": "json",
    "ipynb": "notebook",
    "xml": "xml",
    "rdf": "xml",
    "txt": "text",
    "rst": "text",
    "srt": "text",
    "vtt": "text",
    "ini": "text",
    "toml": "text",
    "yaml": "text",
    "makefile": "text",
    "dockerfile": "text",
    **dict.fromkeys(("png", "jpeg", "tiff", "webp", "bmp", "gif"), "image"),
    **dict.fromkeys(
        (
            "python", "javascript", "typescript", "go", "rust", "java", "c", "cpp", "cs", "ruby", "php", "shell", "sql",
            "kotlin", "swift", "scala",
        ),
        "code",
    ),
}  # fmt: skip
_SURE = 0.5
"""Scores below are guesses."""


def loader_for(name: str, data: bytes, suggested: str | None = None) -> str | None:
    """Name of the loader for a file's bytes; None when no loader reads it.

    Args:
        name: its path; the suffix decides as long as the content does not contradict it.
        data: the whole file, or its first 64 KiB when its name suggests nothing.
        suggested: what the suffix says, where that is known already.

    Raises:
        InvalidInput: the content is of another kind that nothing reads (`content_mismatch`), or two loaders claim the
            suffix.
        MissingExtra: the content must be looked at and magika is not installed.
    """
    suggested = suggested or find_loader(name)
    if suggested is not None and (not data or _agrees(suggested, data)):
        return suggested
    label, score, meaning = _told(data)
    found = _LABELS.get(label)
    if found is not None and score >= _SURE and found in loaders.names():
        return found
    if suggested is None:
        return None
    if label in {"unknown", "empty", "txt"} or score < _SURE:
        return suggested  # it says itself what is wrong
    raise InvalidInput(
        f"the file {name!r} is no {suggested} but {meaning}",
        param=name,
        code="content_mismatch",
        hint="give it its right suffix, or leave it out",
    )


def loader_of_unnamed(name: str, head: bytes) -> str | None:
    """As `loader_for`, for a file whose suffix says nothing, by its first bytes; None is a file to leave out."""
    if not head.strip() or (_is_binary(head) and not head.startswith((b"%PDF-", _ZIP, _OLE, *_PICTURES))):
        return None
    found = loader_for(name, head)
    return None if found == "image" and not loaders.get("image").suffixes else found


def _agrees(loader: str, data: bytes) -> bool:
    if loader in _SIGNATURES:
        head = data[:1024]
        # Junk before the header of a PDF is common, and PDFium reads it.
        return b"%PDF-" in head if loader == "pdf" else head.lstrip().startswith(_SIGNATURES[loader])
    return loader not in _TEXTS or not _is_binary(data[:HEAD_BYTES])


def _is_binary(head: bytes) -> bool:
    if head.startswith(_MARKS):
        return False
    return b"\0" in head or head.startswith((b"%PDF-", _ZIP, _OLE))


@cache
def _model() -> Magika:
    with needs_extra("telling a file's kind by its content"):
        from magika import Magika
    return Magika()


def _told(data: bytes) -> tuple[str, float, str]:
    """Label, score, and what it is in words."""
    result = _model().identify_bytes(data)
    output = result.output
    return str(output.label), float(result.score), str(output.description or output.label)
