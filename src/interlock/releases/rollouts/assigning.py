"""Which release serves a unit: sticky, without a store, and raising the share only ever adds units."""

from __future__ import annotations

import hashlib
import hmac

__all__ = ["bucket", "unit_hash"]


def bucket(seed: str, unit: str) -> float:
    """Where a unit stands, in [0, 1): it is in the candidate's arm while this is below its share.

    53 bits of SHA-256 over seed and unit; another seed shuffles anew.

    >>> bucket("s", "user:ada") == bucket("s", "user:ada") != bucket("t", "user:ada")
    True
    """
    digest = hashlib.sha256(f"{seed}\0{unit}".encode()).digest()
    return (int.from_bytes(digest[:8]) >> 11) / (1 << 53)


def unit_hash(seed: str, unit: str) -> str:
    """What stands for a unit in telemetry. Without the seed, which stays in the database, it tells nothing."""
    return hmac.new(seed.encode(), unit.encode(), hashlib.sha256).hexdigest()[:24]
