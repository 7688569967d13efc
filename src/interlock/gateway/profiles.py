"""Facts about models, by longest matching prefix of `profiles.json`."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources

from interlock.gateway.types import ModelProfile

__all__ = ["profile"]

_MAKER = re.compile(r"[a-z]+\.(?=[a-z])")


@cache
def _table() -> dict[str, ModelProfile]:
    raw = json.loads(resources.files("interlock.gateway").joinpath("profiles.json").read_text("utf-8"))
    return {prefix: ModelProfile(**facts) for prefix, facts in raw.items() if not prefix.startswith("_")}


@cache
def profile(model: str) -> ModelProfile:
    """What is known of `model` (name without provider); an unknown one is taken for capable.

    >>> profile("smollm2-135m-instruct").tier
    'small'
    >>> profile("us.anthropic.claude-sonnet-4-5-20250929-v1:0").max_output_tokens
    64000
    """
    name = model.rsplit("/", 1)[-1].lower()
    names = [name]
    # Bedrock puts a region and a maker before the name: `us.anthropic.claude-…`.
    while match := _MAKER.match(names[-1]):
        names.append(names[-1][match.end() :])
    return _table()[max((prefix for prefix in _table() for name in names if name.startswith(prefix)), key=len)]
