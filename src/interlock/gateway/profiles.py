"""Facts about models: by longest matching prefix of `profiles.json`, then as the operator says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources

from interlock.gateway.types import ModelFacts, ModelProfile

__all__ = ["profile"]

_MAKER = re.compile(r"[a-z]+\.(?=[a-z])")
_TUNED = re.compile(r"ft:([^:]+)")
"""OpenAI's fine-tuned models: `ft:gpt-4o-mini:company::id` is a gpt-4o-mini."""


@cache
def _table() -> dict[str, ModelProfile]:
    raw = json.loads(resources.files("interlock.gateway").joinpath("profiles.json").read_text("utf-8"))
    # Of a family that is listed, what is not said is not so; of one that is not, nothing is known.
    return {
        prefix: ModelProfile(**({"images": False, **facts} if prefix else facts))
        for prefix, facts in raw.items()
        if not prefix.startswith("_")
    }


def profile(model: str, said: Mapping[str, ModelFacts] | None = None) -> ModelProfile:
    """What is known of `model` (name without provider).

    Args:
        said: by name or pattern with ``*``, what the provider's settings say; the longest one that fits counts.

    >>> profile("qwen3-coder", {"qwen3*": ModelFacts(context_tokens=262144)}).context_tokens
    262144
    """
    known = _known(model)
    fitting = [pattern for pattern in said or () if fnmatchcase(model, pattern)]
    if said is None or not fitting:
        return known
    facts = said[max(fitting, key=len)].model_dump(exclude_none=True)
    return replace(known, **facts)


@cache
def _known(model: str) -> ModelProfile:
    """What Interlock knows of `model`; an unknown one is taken for capable.

    >>> _known("smollm2-135m-instruct").tier
    'small'
    >>> _known("us.anthropic.claude-sonnet-4-5-20250929-v1:0").max_output_tokens
    64000
    """
    tuned = _TUNED.match(model)
    name = (tuned.group(1) if tuned else model).rsplit("/", 1)[-1].lower()
    names = [name]
    # Bedrock puts a region and a maker before the name: `us.anthropic.claude-…`.
    while match := _MAKER.match(names[-1]):
        names.append(names[-1][match.end() :])
    return _table()[max((prefix for prefix in _table() for name in names if name.startswith(prefix)), key=len)]
