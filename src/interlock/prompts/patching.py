"""A unified diff that ``git apply`` and ``patch -p1`` take, run in the workspace. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

__all__ = ["unified"]

_NO_NEWLINE = "\\ No newline at end of file\n"


def unified(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What turns the files of `before` into those of `after`; empty when they are the same.

    Args:
        before: path to text; a path that is not in `after` is left as it is.
        after: path to text.
    """
    return "".join(
        line
        for path in sorted(after)
        if before.get(path, "") != after[path]
        for line in _file(path, before.get(path), after[path])
    )


def _file(path: str, old: str | None, new: str) -> Iterator[str]:
    # Without git's own header line, paths are taken from the folder where the patch is applied, not from the
    # repository's top: a workspace may be any folder of a repository.
    name = f"{path}\t" if " " in path else path
    lines = difflib.unified_diff(
        _lines(old or ""),
        _lines(new),
        fromfile="/dev/null" if old is None else f"a/{name}",
        tofile=f"b/{name}",
        lineterm="\n",
    )
    for line in lines:
        if line.endswith("\n"):
            yield line
        else:
            yield line + "\n" + _NO_NEWLINE


def _lines(text: str) -> list[str]:
    # Only line feeds end a line of a patch; `splitlines` would end one at others too.
    pieces = text.split("\n")
    lines = [f"{piece}\n" for piece in pieces[:-1]]
    return [*lines, pieces[-1]] if pieces[-1] else lines
