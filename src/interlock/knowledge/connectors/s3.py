"""A bucket of an S3-compatible store: list-objects-v2, signed requests (AWS Signature Version 4)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import ClassVar, Literal, cast
from urllib.parse import quote, urlsplit
from xml.etree.ElementTree import Element

from pydantic import Field

from interlock.core.clock import now
from interlock.core.errors import TooLarge, Unavailable
from interlock.knowledge.connectors._http import Api, NoCredentials
from interlock.knowledge.connectors._sites import ApiSource, EnvName, secret
from interlock.knowledge.connectors._xml import local, parsed
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source

__all__ = ["S3Source", "plugin", "signed"]

_EMPTY = hashlib.sha256(b"").hexdigest()


class S3Source(ApiSource):
    """Objects of a bucket."""

    kind: Literal["s3"] = "s3"
    bucket: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}$")
    """Name of the bucket"""
    folder: str = ""
    """Only keys that start with this"""
    region: str = Field(default="us-east-1", pattern=r"^[a-z0-9-]{1,64}$")
    """Region that requests are signed for"""
    access_key_env: EnvName | None = None
    """Environment variable with the access key's id; without it requests are not signed, as for a public bucket"""
    secret_key_env: EnvName | None = None
    """Environment variable with the secret access key"""
    session_token_env: EnvName | None = None
    """Environment variable with the session token of short-lived keys"""
    page_size: int = Field(default=1000, ge=1, le=1000)
    """Objects a page of the listing"""

    needs_token: ClassVar[bool] = False

    def place(self) -> str:
        """Store, bucket and folder."""
        return f"{self.url}/{self.bucket}/{self.folder}"


class _Bucket:
    def __init__(self, source: S3Source, surroundings: Surroundings) -> None:
        self._source = source
        self._environ = surroundings.environ
        self._max_bytes = surroundings.max_bytes
        self._keys: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._key()
        self._api = Api(
            f"the bucket {source.bucket!r}",
            source.url,
            NoCredentials(),
            max_bytes=surroundings.max_bytes,
            allow_private=source.allow_private,
            timeout_s=source.timeout_s,
        )

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """Always all objects: the protocol tells of no changes. An unchanged object costs its line of the listing."""
        token: str | None = None
        while True:
            params: dict[str, str | int] = {"list-type": 2, "max-keys": self._source.page_size}
            if self._source.folder:
                params["prefix"] = self._source.folder
            if token is not None:
                params["continuation-token"] = token
            answer = await self._api.ask(
                f"{self._source.bucket}", params, headers=self._headers(f"/{self._source.bucket}", params)
            )
            self._api.must_be_good(answer)
            root = parsed(answer.body, "the listing")
            token = _text(root, "NextContinuationToken") if _text(root, "IsTruncated") == "true" else None
            if local(root) != "ListBucketResult":
                raise Unavailable("the store sent no listing", code="source_unreachable")
            yield SourcePage(self._items(root), complete=token is None)
            if token is None:
                return

    def _items(self, root: Element) -> list[SourceItem]:
        items: list[SourceItem] = []
        self._keys.clear()
        for entry in root:
            key = _text(entry, "Key")
            if local(entry) != "Contents" or not key or key.endswith("/"):
                continue
            path = key.removeprefix(self._source.folder).lstrip("/") or key
            size, tag = _text(entry, "Size"), _text(entry, "ETag").strip('"')
            self._keys[path] = key
            self._sizes[path] = int(size) if size.isdecimal() else 0
            metadata = {"last_modified": at} if (at := _text(entry, "LastModified")) else {}
            items.append(SourceItem(path, f"{tag}-{size}" if tag else "", metadata=metadata))
        return items

    async def fetch(self, item: SourceItem) -> bytes:
        """The object."""
        if self._sizes[item.source] > self._max_bytes:
            raise TooLarge(
                f"{item.source!r} has {self._sizes[item.source]} bytes, more than {self._max_bytes}",
                param=item.source,
                hint="leave it out with exclude, or raise knowledge.max_file_bytes",
            )
        path = f"/{self._source.bucket}/{quote(self._keys[item.source], safe='/-_.~')}"
        base = self._source.url.rstrip("/")
        headers = self._headers(path, {})
        answer = await self._api.ask(base + path, headers=headers, most=self._max_bytes, source=item.source)
        self._api.must_be_good(answer)
        return answer.body

    def _key(self) -> tuple[str, str, str] | None:
        source = self._source
        if source.access_key_env is None or source.secret_key_env is None:
            return None
        token = secret(self._environ, source.session_token_env, "s3") if source.session_token_env else ""
        return (
            secret(self._environ, source.access_key_env, "s3"),
            secret(self._environ, source.secret_key_env, "s3"),
            token,
        )

    def _headers(self, path: str, params: Mapping[str, str | int]) -> dict[str, str]:
        key = self._key()
        if key is None:
            return {}
        parts = urlsplit(self._source.url)
        return signed(
            parts.netloc, parts.path.rstrip("/") + path, params, key=key, region=self._source.region, at=now()
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._api.aclose()


def _text(element: Element, name: str) -> str:
    return next((child.text or "" for child in element if local(child) == name), "")


def signed(
    host: str,
    path: str,
    params: Mapping[str, str | int],
    *,
    key: tuple[str, str, str],
    region: str,
    at: datetime,
) -> dict[str, str]:
    """Headers that sign a GET (AWS Signature Version 4, service s3).

    Args:
        host: with its port, as it is sent.
        path: percent-encoded.
        params: of the query.
        key: id, secret, session token or an empty text.
    """
    moment = at.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": _EMPTY, "x-amz-date": moment}
    if key[2]:
        headers["x-amz-security-token"] = key[2]
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(str(value), safe='-_.~')}" for name, value in sorted(params.items())
    )
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join(["GET", path, query, lines, names, _EMPTY])
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
    signing = f"AWS4{key[1]}".encode()
    for step in (moment[:8], region, "s3", "aws4_request"):
        signing = hmac.new(signing, step.encode(), hashlib.sha256).digest()
    signature = hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()
    proof = f"AWS4-HMAC-SHA256 Credential={key[0]}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**{name: value for name, value in headers.items() if name != "host"}, "authorization": proof}


class _Plugin:
    model = S3Source

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _Bucket(cast(S3Source, source), surroundings)


plugin = _Plugin()
