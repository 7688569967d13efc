"""A library that an extra installs and that is not here becomes an error that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from interlock.core.errors import MissingExtra

__all__ = ["needs_extra"]


@contextmanager
def needs_extra(what: str) -> Iterator[None]:
    """Raise MissingExtra when `what` cannot import one of its libraries inside the block.

    Heavy libraries are imported where they are used, long after the plug-in itself was loaded.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{what} needs the library {error.name!r}", hint="pip install 'interlock[knowledge]'"
        ) from error
