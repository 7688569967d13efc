"""Canonical JSON and its SHA-256: one byte sequence, and so one digest, for one value.

Keys sorted by code point, no white space, UTF-8, no NaN or infinity, floats as Python's shortest repr.
Digests are written ``sha256:<64 hex digits>`` everywhere, in this one form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

__all__ = ["Json", "canonical_bytes", "digest_bytes", "digest_json"]

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


def canonical_bytes(value: object) -> bytes:
    """Canonical JSON of `value`.

    Raises: TypeError or ValueError: when `value` has no JSON form (NaN, a set, a non-string key).
    """
    _refuse_odd_keys(value)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def _refuse_odd_keys(value: object) -> None:
    # json.dumps silently turns 1 and True into "1" and "true": two values, one digest.
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"canonical JSON needs string keys, not {key!r}")
            _refuse_odd_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_odd_keys(item)


def digest_bytes(data: bytes) -> str:
    """``sha256:<hex>`` of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_json(value: object) -> str:
    """``sha256:<hex>`` of the canonical JSON of `value`."""
    return digest_bytes(canonical_bytes(value))
