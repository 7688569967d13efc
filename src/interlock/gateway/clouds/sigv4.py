"""AWS Signature Version 4. Source: "Create a signed AWS API request", IAM user guide."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl, quote, urlsplit

__all__ = ["AwsKeys", "sign"]


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """Credentials of an AWS principal."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    """None for keys that do not expire."""


def sign(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    keys: AwsKeys,
    region: str,
    service: str,
    at: datetime,
) -> dict[str, str]:
    """Headers to add to the request, `authorization` among them.

    Args:
        url: as it is sent, percent-encoded.
        headers: those to sign; `host` is taken from `url` when it is not among them.
        at: aware time of signing; the service refuses more than five minutes of skew.
    """
    parts = urlsplit(url)
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    added = {"x-amz-date": stamp}
    if keys.session_token:
        added["x-amz-security-token"] = keys.session_token
    named = {"host": parts.netloc, **{name.lower(): value for name, value in headers.items()}, **added}
    signed = {name: " ".join(value.split()) for name, value in sorted(named.items())}
    names = ";".join(signed)
    # Every service but S3 encodes the path a second time.
    path = quote(parts.path or "/", safe="/~-._")
    query = "&".join(
        f"{quote(name, safe='~-._')}={quote(value, safe='~-._')}"
        for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True))
    )
    canonical = "\n".join(
        [
            method,
            path,
            query,
            *(f"{name}:{value}" for name, value in signed.items()),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{keys.secret_key}".encode()
    for step in (stamp[:8], region, service, "aws4_request"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    added["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return added
