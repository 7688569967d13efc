"""YAML as we read it: plain values only, each name once, and every fault is a YAML fault."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["YamlFault", "read_yaml"]

YamlFault = yaml.YAMLError
"""What `read_yaml` raises; `problem_mark` of some tells the line."""
_MOST_NODES = 200_000


class _Loader(yaml.SafeLoader):
    # Any: nodes of an untyped library.
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


# Any: whatever the text holds.
def read_yaml(text: str) -> Any:
    """The value of a text.

    Raises: YamlFault: it is no YAML, a name stands twice in one mapping, a date or number does not exist, or it is
        nested beyond sense.
    """
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (ValueError, OverflowError, RecursionError) as error:
        # February the 30th, among others, leaves the library as it came from the date.
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error
    _bounded(value)
    return value


def _bounded(value: Any) -> None:
    """Aliases of aliases make a few lines into billions of values, which every later step would walk through."""
    left = _MOST_NODES
    waiting = [value]
    while waiting:
        each = waiting.pop()
        left -= 1
        if left < 0:
            raise yaml.YAMLError(f"more than {_MOST_NODES:,} values")
        if isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
