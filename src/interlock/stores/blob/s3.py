"""Objects in a bucket of an S3-compatible store, named by content."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from interlock.core.canonical import digest_bytes
from interlock.core.errors import Misconfigured, NotFound, Unavailable
from interlock.core.ids import TenantId
from interlock.stores._folders import tenant_folder
from interlock.stores._threads import Threads
from interlock.stores.blob.settings import S3Settings

if TYPE_CHECKING:
    from obstore.store import S3Store

__all__ = ["S3Blobs", "open_s3"]

T = TypeVar("T")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_TRIES = 3
_TIMEOUT_S = 60.0
_NO_BUCKET = "<Code>NoSuchBucket</Code>"
_NO_RIGHT = "the object store refuses the key"


class S3Blobs:
    """A `Blobs` in a bucket; any number of machines may share it.

    ``<prefix>/<tenant>/<first two digits>/<hex digest>``: an object appears whole or not at all.

    Args:
        store: of the bucket, with the prefix.
        threads: requests at a time.
    """

    def __init__(self, store: S3Store, *, threads: int = 16) -> None:
        self._store = store
        self._threads = Threads(threads, "interlock-s3")
        self._is_there = False
        """Whether the bucket was seen: without it a missing object could not be told from a missing bucket."""

    async def put(self, tenant: TenantId, data: bytes) -> str:
        """See `Blobs.put`. One request to see whether it is there, one to write it."""
        digest = digest_bytes(data)
        key = _key(tenant, digest)
        assert key is not None, "digest_bytes gives digests"

        def write() -> None:
            # An object of another length is damaged: storing the same bytes again repairs it.
            if self._size(key) != len(data):
                self._store.put(key, data, use_multipart=False)

        await self._run(write)
        return digest

    async def get(self, tenant: TenantId, digest: str) -> bytes:
        """See `Blobs.get`."""
        key = _key(tenant, digest)
        data = None if key is None else await self._run(lambda: self._content(key))
        if data is None:
            raise NotFound(f"no object {digest!r}")
        if digest_bytes(data) != digest:
            raise Unavailable(
                f"the object {digest!r} is damaged in its store",
                code="corrupt_object",
                retryable=False,
                hint="restore it from a backup",
            )
        return data

    async def exists(self, tenant: TenantId, digest: str) -> bool:
        """See `Blobs.exists`."""
        key = _key(tenant, digest)
        return key is not None and await self._run(lambda: self._size(key)) is not None

    async def delete(self, tenant: TenantId, digest: str) -> None:
        """See `Blobs.delete`. In a bucket with versions the older ones stay until its own rules remove them."""
        key = _key(tenant, digest)
        if key is not None:
            await self._run(lambda: self._delete(key))

    async def list(self, tenant: TenantId) -> AsyncIterator[str]:
        """See `Blobs.list`. A thousand a request."""
        pages = iter(await self._run(lambda: self._store.list(prefix=tenant_folder(tenant), chunk_size=1000)))
        while (page := await self._run(lambda: next(pages, None))) is not None:
            for entry in page:
                name = f"sha256:{entry['path'].rpartition('/')[2]}"
                if _DIGEST.fullmatch(name):
                    yield name

    async def close(self) -> None:
        """See `Blobs.close`."""
        await self._threads.close()

    def _size(self, key: str) -> int | None:
        try:
            return int(self._store.head(key)["size"])
        except FileNotFoundError as error:
            self._missing(error)
            return None

    def _content(self, key: str) -> bytes | None:
        try:
            return bytes(self._store.get(key).bytes())
        except FileNotFoundError as error:
            self._missing(error)
            return None

    def _delete(self, key: str) -> None:
        try:
            self._store.delete(key)
        except FileNotFoundError as error:
            self._missing(error)

    def _missing(self, error: FileNotFoundError) -> None:
        """The object is not there. Raises: Unavailable: neither is its bucket; what it held is not gone by that."""
        if _NO_BUCKET in str(error):
            raise _no_bucket() from error
        if not self._is_there:
            # An answer without a body does not say what is missing; a listing does.
            next(iter(self._store.list(chunk_size=1)), None)
            self._is_there = True

    async def _run(self, fn: Callable[[], T]) -> T:
        def converted() -> T:
            with _converted():
                return fn()

        return await self._threads.run(converted)


def _key(tenant: TenantId, digest: str) -> str | None:
    """Its name; None when `digest` is no digest, so that no other object can be named."""
    found = _DIGEST.fullmatch(digest)
    return None if found is None else f"{tenant_folder(tenant)}/{found[1][:2]}/{found[1]}"


def open_s3(address: str, settings: S3Settings, environ: Callable[[str], str | None]) -> S3Blobs:
    """The store of ``s3://bucket/prefix``. Sends nothing yet.

    Args:
        environ: values of environment variables.

    Raises: Misconfigured: a variable that the settings name is not set.
    """
    from obstore.store import S3Store

    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    keys: dict[str, str] = {}
    for field in ("access_key_env", "secret_key_env", "session_token_env"):
        name = getattr(settings, field)
        if not name:
            continue
        value = environ(name)
        if not value:
            raise Misconfigured(
                f"the environment variable {name!r} is not set",
                param=f"stores.s3.{field}",
                hint="set it, or name another",
            )
        keys[field] = value
    # Any: the library takes one large TypedDict of literals.
    options: dict[str, Any] = {"region": settings.region}
    if settings.endpoint:
        options["endpoint"] = settings.endpoint
    if keys:
        options |= {
            "access_key_id": keys.get("access_key_env", ""),
            "secret_access_key": keys.get("secret_key_env", ""),
        }
        if "session_token_env" in keys:
            options["session_token"] = keys["session_token_env"]
    made: S3Store = S3Store(
        bucket,
        prefix=prefix.strip("/") or None,
        virtual_hosted_style_request=settings.virtual_host,
        client_options={
            "allow_http": settings.endpoint.startswith("http://"),
            "timeout": timedelta(seconds=_TIMEOUT_S),
        },
        retry_config={"max_retries": _TRIES, "retry_timeout": timedelta(seconds=_TIMEOUT_S)},
        **options,
    )
    return S3Blobs(made)


def _no_bucket() -> Unavailable:
    return Unavailable(
        "the object store has no bucket of this name",
        retryable=False,
        code="object_store_no_bucket",
        hint="make the bucket, or correct stores.blobs in interlock.yaml",
    )


@contextmanager
def _converted() -> Iterator[None]:
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
        raise Unavailable(
            _NO_RIGHT, retryable=False, code="object_store_refused", hint="check stores.s3 and the rights of its key"
        ) from error
    except (BaseError, OSError) as error:
        if _NO_BUCKET in str(error):
            raise _no_bucket() from error
        # The library's text names addresses and requests: it goes to the cause, and not to a caller.
        raise Unavailable(
            f"the object store does not answer ({type(error).__name__})",
            code="object_store_away",
            hint="check stores.blobs and stores.s3 in interlock.yaml: interlock doctor",
        ) from error
