"""Facts about models, by longest matching prefix of `profiles.json`."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from interlock.gateway.types import ModelProfile

__all__ = ["profile"]


@cache
def _table() -> dict[str, ModelProfile]:
    raw = json.loads(resources.files("interlock.gateway").joinpath("profiles.json").read_text("utf-8"))
    return {prefix: ModelProfile(**facts) for prefix, facts in raw.items() if not prefix.startswith("_")}


@cache
def profile(model: str) -> ModelProfile:
    """What is known of `model` (name without provider); an unknown one is taken for capable.

    >>> profile("smollm2-135m-instruct").tier
    'small'
    """
    name = model.rsplit("/", 1)[-1].lower()
    return _table()[max((prefix for prefix in _table() if name.startswith(prefix)), key=len)]
