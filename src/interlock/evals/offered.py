"""Tools that a case offers to its target: ``metadata.tools``, in OpenAI's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.evals.types import Case

__all__ = ["offered_tools"]


def offered_tools(case: Case) -> Sequence[Mapping[str, Any]]:  # Any: JSON values
    """All of them; empty where the case offers none. Raises: InvalidInput: they are not of the form."""
    given = case.metadata.get("tools")
    if given is None:
        return ()
    tools: list[Mapping[str, Any]] = []
    for each in given if isinstance(given, list) else [None]:
        function = each.get("function") if isinstance(each, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidInput(
                f"case {case.id!r}: metadata.tools is a list of {{type: function, function: {{name, parameters}}}}",
                param="metadata.tools",
            )
        assert isinstance(each, dict)
        tools.append(each)
    return tools
