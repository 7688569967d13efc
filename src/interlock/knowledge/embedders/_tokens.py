"""Vectors of single tokens, out of what a model gives for a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlock.core.ports import TokenVectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Encoding

__all__ = ["token_vectors"]


def token_vectors(hidden: NDArray[np.float32], encoding: Encoding, *, skip: int = 0) -> TokenVectors:
    """The tokens of one text, without marks and padding.

    Args:
        hidden: ``(width, dimensions)`` of the last layer.
        skip: tokens of a prompt that stands before the text.
    """
    import numpy as np

    rows = [at for at, special in enumerate(encoding.special_tokens_mask) if not special][skip:]
    own = hidden[rows]
    unit: NDArray[np.float32] = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    return TokenVectors([encoding.tokens[at] for at in rows], unit)
