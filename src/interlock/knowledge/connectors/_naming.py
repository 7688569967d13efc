"""Names that look alike and are not the same."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

__all__ = ["apart"]


def apart(path: str, raw: bytes) -> str:
    r"""A path that another thing has already, made its own by a digest of what it is called there.

    >>> apart("notes/a b.md", b"notes/a\nb.md")
    'notes/a b~6d434ce3.md'
    """
    digest = hashlib.sha256(raw).hexdigest()[:8]
    suffix = PurePosixPath(path).suffix
    return f"{path.removesuffix(suffix) if suffix else path}~{digest}{suffix}"
