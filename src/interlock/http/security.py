"""Headers of pages: nothing runs, loads or frames that is not ours."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PAGE_HEADERS"]

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
)

PAGE_HEADERS: Mapping[str, str] = {
    "content-security-policy": "; ".join(_POLICY),
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
"""For every page that shows somebody's data: no inline script or style, no frame, nothing kept by a cache."""
