"""Rows of texts into batches that a model runs at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["batches"]

_TEXTS = 32
_TOKENS = 4096


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers in batches of similar length, longest first, bounded in texts and in padded tokens."""
    batch: list[int] = []
    width = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        width = width or lengths[row]
        if batch and (len(batch) >= _TEXTS or (len(batch) + 1) * width > _TOKENS):
            yield batch
            batch, width = [], lengths[row]
        batch.append(row)
    if batch:
        yield batch
