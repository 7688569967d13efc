"""What pydantic says about a wrong value, in our words."""

from __future__ import annotations

__all__ = ["plain"]

_SAID = {
    "Extra inputs are not permitted": "there is no such field",
    "Field required": "it is missing",
}


def plain(message: str) -> str:
    """`message` of a validation error, without the library's own phrases."""
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return _SAID.get(message, message)
