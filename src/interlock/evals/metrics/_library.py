"""Libraries of the extra `eval`, imported where a metric first needs them."""

from __future__ import annotations

import importlib
from typing import Any

from interlock.core.errors import MissingExtra

__all__ = ["library"]


def library(name: str) -> Any:  # Any: a module, whichever it is
    """The module `name`. Raises: MissingExtra."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"this metric needs the library {error.name!r}", hint="pip install 'interlock[eval]'"
        ) from error
