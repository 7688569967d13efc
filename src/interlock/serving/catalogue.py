"""Known models: data, in `catalogue.json`."""

from __future__ import annotations

import difflib
import json
from functools import cache
from importlib import resources

from interlock.core.errors import NotFound
from interlock.serving.types import ModelEntry

__all__ = ["entries", "entry"]


@cache
def entries() -> tuple[ModelEntry, ...]:
    """All known models, defaults first."""
    raw = json.loads(resources.files("interlock.serving").joinpath("catalogue.json").read_text("utf-8"))
    return tuple(sorted((ModelEntry.model_validate(row) for row in raw), key=lambda e: (not e.default, e.name)))


def entry(name: str) -> ModelEntry:
    """One model. Raises: NotFound, naming a near one."""
    for known in entries():
        if known.name == name:
            return known
    near = difflib.get_close_matches(name, [known.name for known in entries()], n=1)
    hint = f"did you mean {near[0]!r}?" if near else "interlock models list"
    raise NotFound(f"no model {name!r} in the catalogue", param="model", hint=hint)
