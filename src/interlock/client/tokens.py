"""Mint on-behalf-of tokens in your own service."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

__all__ = ["mint_token"]


def mint_token(
    key: str,
    *,
    tenant: str,
    user: str,
    groups: Sequence[str] = (),
    conversation: str | None = None,
    purpose: str | None = None,
    life_s: int = 300,
    algorithm: str = "HS256",
    kid: str = "default",
) -> str:
    """A token for the header ``X-Interlock-On-Behalf-Of``. No network.

    Args:
        key: the tenant's HMAC secret (``interlock token secret``), or a PEM private key whose public half was
            registered (``interlock token register``).
        life_s: seconds; the server accepts at most `access.token_max_age_s` (900 by default).
        algorithm: HS256, EdDSA, ES256 or RS256, as registered under `kid`.
    """
    import jwt

    now = int(time.time())
    # Any: JWT claims are JSON.
    claims: dict[str, Any] = {
        "sub": user,
        "tenant": tenant,
        "groups": sorted(groups),
        "aud": "interlock",
        "iat": now,
        "exp": now + life_s,
        "jti": secrets.token_urlsafe(12),
    }
    if conversation:
        claims["conversation"] = conversation
    if purpose:
        claims["purpose"] = purpose
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})
