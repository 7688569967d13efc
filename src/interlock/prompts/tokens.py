"""How long a text is for a model, before any model has counted."""

from __future__ import annotations

__all__ = ["estimate_tokens"]

_BYTES_A_TOKEN = 4
_OTHER_BYTES_A_TOKEN = 3


def estimate_tokens(text: str) -> int:
    """Tokens of a text, estimated: four bytes a token for ASCII, three for other scripts. 0 for an empty text."""
    size = len(text.encode("utf-8", "replace"))
    return -(-size // (_BYTES_A_TOKEN if text.isascii() else _OTHER_BYTES_A_TOKEN))
