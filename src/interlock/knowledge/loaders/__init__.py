"""Loaders: one file per family of formats, each with a `plugin`; chosen by file suffix."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePosixPath

from interlock.core.errors import InvalidInput, MissingExtra
from interlock.core.plugins import Registry
from interlock.knowledge.loaders._building import TextBuilder
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.ports import Loader

__all__ = ["TextBuilder", "decode", "find_loader", "loaders"]

loaders: Registry[Loader] = Registry("loader", "interlock.knowledge.loaders", extra="knowledge")


@lru_cache(maxsize=1024)
def _by_suffix(suffix: str) -> tuple[str, ...]:
    found: list[str] = []
    for name in loaders.names():
        try:
            if suffix in loaders.get(name).suffixes:
                found.append(name)
        except MissingExtra:
            continue  # a third party's loader without its library must not stop the others
    return tuple(found)


def find_loader(path: str, choices: Mapping[str, str] | None = None) -> str | None:
    """Name of the loader for a file, by suffix; None when there is none.

    Args:
        path: of the file.
        choices: suffix to loader, where somebody has decided.

    Raises: InvalidInput: two loaders claim the suffix and nobody has decided.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if choices and suffix in choices:
        return choices[suffix]
    found = _by_suffix(suffix)
    if len(found) > 1:
        raise InvalidInput(
            f"the suffix {suffix!r} is claimed by the loaders {', '.join(found)}",
            param=path,
            hint=f"say which one: `loaders: {{{suffix}: {found[0]}}}` in the source file",
        )
    return found[0] if found else None
