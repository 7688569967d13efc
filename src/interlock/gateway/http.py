"""Talking to providers over HTTP: one pooled client, bounded server-sent events, errors in our own tree."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import LimitExceeded, Misconfigured, ProviderError
from interlock.gateway.settings import ProviderSettings

if TYPE_CHECKING:
    import httpx2

__all__ = ["HttpApi", "machine_code", "read_secret"]

_MAX_EVENT_BYTES = 8_000_000
_MAX_ERROR_BYTES = 64_000
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}")


def read_secret(settings: ProviderSettings, environ: Mapping[str, str], *, name: str) -> str | None:
    """The provider's key from its file or environment variable, None when neither is configured.

    Read at every call, so that a rotated key is used without a restart.
    Raises: Misconfigured: configured, but not there.
    """
    if settings.api_key_file:
        try:
            return Path(settings.api_key_file).expanduser().read_text("utf-8").strip()
        except OSError as error:
            raise Misconfigured(
                f"the key file of provider {name!r} cannot be read: {error.strerror}",
                param=f"gateway.providers.{name}.api_key_file",
            ) from error
    if settings.api_key_env:
        value = environ.get(settings.api_key_env) or os.environ.get(settings.api_key_env)
        if not value:
            raise Misconfigured(
                f"provider {name!r} has no key",
                param=f"gateway.providers.{name}.api_key_env",
                hint=f"export {settings.api_key_env}=…",
            )
        return value
    return None


class HttpApi:
    """A provider's HTTP endpoint.

    Args:
        name: the configured provider, for messages.
        base_url: without a trailing slash, with the version segment.
    """

    def __init__(self, name: str, base_url: str, settings: ProviderSettings) -> None:
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._settings = settings
        self._client: httpx2.AsyncClient | None = None

    def _http(self) -> httpx2.AsyncClient:
        if self._client is None:
            import httpx2

            timeout = httpx2.Timeout(self._settings.idle_timeout_s, connect=self._settings.connect_timeout_s, pool=10.0)
            self._client = httpx2.AsyncClient(timeout=timeout, follow_redirects=False)
        return self._client

    async def get_json(self, path: str, headers: Mapping[str, str]) -> Any:
        """Decoded JSON of a GET. Any: a foreign service's answer, narrowed by the caller."""
        async with self._request("GET", path, headers, None) as response:
            return _decoded(await response.aread(), self._name)

    async def list_models(self, path: str, headers: Mapping[str, str]) -> list[str]:
        """Sorted ids of a model list, which OpenAI and Anthropic shape alike. Raises: ProviderError."""
        answer = await self.get_json(path, headers)
        try:
            return sorted(str(row["id"]) for row in answer["data"])
        except (KeyError, TypeError) as error:
            raise ProviderError(f"provider {self._name!r} lists no models", provider=self._name) from error

    async def post_json(self, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Any:
        """Decoded JSON of a POST."""
        async with self._request("POST", path, headers, body) as response:
            return _decoded(await response.aread(), self._name)

    async def post_events(
        self, ctx: Context, path: str, headers: Mapping[str, str], body: Mapping[str, Any]
    ) -> AsyncGenerator[str, None]:
        """The ``data:`` payloads of a server-sent event stream, joined over lines, comments dropped."""
        del ctx  # the caller's task is cancelled at its deadline, which closes the stream
        async with (
            self._request("POST", path, headers, body) as response,
            aclosing(_events(response.aiter_bytes(), self._name)) as events,
        ):
            async for data in events:
                yield data

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> AsyncIterator[httpx2.Response]:
        import httpx2

        try:
            request = self._http().build_request(
                method, self._base_url + path, headers={**headers, **self._settings.headers}, json=body
            )
            response = await self._http().send(request, stream=True)
            try:
                if response.status_code >= 400:
                    raise await _status_error(self._name, response)
                yield response
            finally:
                await response.aclose()
        except httpx2.ConnectError as error:
            raise ProviderError(
                f"provider {self._name!r} cannot be reached",
                provider=self._name,
                retryable=True,
                code="provider_unreachable",
                hint=f"check gateway.providers.{self._name}.base_url and that the server runs",
            ) from error
        except httpx2.TimeoutException as error:
            raise ProviderError(
                f"provider {self._name!r} fell silent",
                provider=self._name,
                retryable=True,
                code="provider_timeout",
            ) from error
        except (httpx2.HTTPError, ValueError) as error:
            raise ProviderError(
                f"provider {self._name!r} broke off: {type(error).__name__}", provider=self._name, retryable=True
            ) from error

    async def close(self) -> None:
        """Close pooled connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def _decoded(body: bytes, provider: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProviderError(f"provider {provider!r} sent no JSON", provider=provider, retryable=True) from error


async def _lines(pieces: AsyncIterator[bytes], provider: str) -> AsyncGenerator[str, None]:
    """Lines by the three ends of the standard and no others: U+2028 and its kin are text inside JSON."""
    begun: list[bytes] = []
    size = 0
    after_cr = False
    async for piece in pieces:
        if after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            after_cr = False
        if piece:
            after_cr = piece.endswith(b"\r")
        *whole, rest = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            yield b"".join([*begun, line]).decode("utf-8", "replace")
            begun, size = [], 0
        begun.append(rest)
        size += len(rest)
        if size > _MAX_EVENT_BYTES:
            raise _event_too_large(provider)
    if size:
        yield b"".join(begun).decode("utf-8", "replace")


async def _events(pieces: AsyncIterator[bytes], provider: str) -> AsyncGenerator[str, None]:
    data: list[str] = []
    size = 0
    async with aclosing(_lines(pieces, provider)) as lines:
        async for line in lines:
            if line == "":
                if data:
                    yield "\n".join(data)
                    data, size = [], 0
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
                size += len(line)
                if size > _MAX_EVENT_BYTES:
                    raise _event_too_large(provider)
    if data:
        yield "\n".join(data)


def _event_too_large(provider: str) -> ProviderError:
    return ProviderError(f"provider {provider!r} sent an event over 8 MB", provider=provider)


def machine_code(value: object) -> str:
    """A provider's error code when it looks like one, else an empty string: sentences may quote the prompt."""
    text = str(value) if isinstance(value, (str, int)) else ""
    return text if _CODE.fullmatch(text) else ""


async def _status_error(provider: str, response: httpx2.Response) -> ProviderError | LimitExceeded:
    status = response.status_code
    # The provider's own words may quote the prompt: only its machine-readable error type is passed on.
    kind = ""
    size = 0
    pieces: list[bytes] = []
    async for piece in response.aiter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_ERROR_BYTES:
            break
    try:
        error = json.loads(b"".join(pieces)).get("error") or {}
        kind = machine_code(error.get("code")) or machine_code(error.get("type")) if isinstance(error, dict) else ""
    except (ValueError, AttributeError, RecursionError):
        kind = ""
    said = f" ({kind})" if kind else ""
    retry_after_s = _retry_after_s(response.headers.get("retry-after"))
    if status == 429 and kind != "insufficient_quota":
        return LimitExceeded(
            f"provider {provider!r} refused by its rate limit{said}",
            code="provider_rate_limited",
            retry_after_s=retry_after_s,
        )
    hints = {
        401: f"check the key of gateway.providers.{provider}",
        403: f"check what the key of gateway.providers.{provider} may do",
        404: "check the model's name with: interlock models list",
    }
    return ProviderError(
        f"provider {provider!r} answered {status}{said}",
        provider=provider,
        upstream_status=status,
        retryable=status in {408, 409, 425, 500, 502, 503, 504, 529},
        hint=hints.get(status),
        retry_after_s=retry_after_s,
    )


def _retry_after_s(value: str | None) -> float | None:
    """Retry-After in seconds, from either of its two forms (RFC 9110 §10.2.3), capped at an hour."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now()).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), 3600.0)
