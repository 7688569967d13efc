"""OpenAI's custom tools: a call of one holds a text and no JSON.

Other APIs have no such tools, so one travels as a function with the one parameter `input`, and a call of it is
written back as the caller's API has it. A grammar that its text must hold to cannot travel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from interlock.core.errors import InvalidInput
from interlock.core.messages import ToolSpec

__all__ = ["arguments_of", "free_text_tool", "input_of"]

_PARAMETERS: Mapping[str, object] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "the whole text that the tool is given"}},
    "required": ["input"],
    "additionalProperties": False,
}


def free_text_tool(name: str, description: str | None, form: object, param: str) -> ToolSpec:
    """The function that stands for a custom tool. Raises: InvalidInput: it has a grammar."""
    if isinstance(form, Mapping) and form.get("type", "text") != "text":
        raise InvalidInput(
            f"{param}.format is a grammar, which models of other providers cannot be held to",
            param=f"{param}.format",
            hint="leave it out, and describe the form in the description",
        )
    return ToolSpec(name, description or "", _PARAMETERS)


def arguments_of(text: str) -> str:
    """The arguments of a call that the caller has as a text."""
    return json.dumps({"input": text}, ensure_ascii=False)


def input_of(arguments: str) -> str:
    """The text of a call; a model that wrote it without JSON meant what it wrote."""
    try:
        found = json.loads(arguments)
    except ValueError:
        return arguments
    text = found.get("input") if isinstance(found, dict) else found
    return text if isinstance(text, str) else arguments
