"""Talking to providers over HTTP: one pooled client, bounded server-sent events, errors in our own tree."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, NotFound, ProviderError
from interlock.gateway.failures import machine_code, status_error
from interlock.gateway.ports import RelayAnswer
from interlock.gateway.secrets import SecretReader
from interlock.gateway.settings import SECRET_STORES, ProviderSettings

if TYPE_CHECKING:
    import httpx2

    from interlock.gateway.clouds.eventstream import Frame

__all__ = ["HttpApi", "Outgoing", "Signer", "encoded", "machine_code"]

_MAX_EVENT_BYTES = 8_000_000
_MAX_ANSWER_BYTES = 128_000_000
_MAX_ERROR_BYTES = 64_000
_MAX_FILE_BYTES = 1_000_000_000


class Outgoing(NamedTuple):
    """A request about to be sent: what a signature is made of."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Signer(Protocol):
    """Proves to a provider who is calling."""

    async def headers(self, ctx: Context | None, call: Outgoing) -> Mapping[str, str]:
        """Headers to add. Raises: Misconfigured, Unavailable."""

    def forget(self, status: int) -> bool:
        """The provider refused with `status`: read the key anew. False when that is no matter of the key's age."""


class HttpApi:
    """A provider's HTTP endpoint.

    Args:
        name: the configured provider, for messages.
        base_url: without a trailing slash, with the version segment.
        signer: adds the key; None for servers without one.
    """

    def __init__(self, name: str, base_url: str, settings: ProviderSettings, signer: Signer | None = None) -> None:
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._settings = settings
        self._signer = signer
        self._client: httpx2.AsyncClient | None = None
        self._secrets = SecretReader({}, ttl_s=settings.key_ttl_s)

    async def _own_headers(self) -> dict[str, str]:
        """The configured headers, references resolved. Raises: Misconfigured, Unavailable."""
        return {
            name: await self._secrets.read(value, param=f"gateway.providers.{self._name}.headers.{name}")
            if value.partition(":")[0] in SECRET_STORES
            else value
            for name, value in self._settings.headers.items()
        }

    async def prove(self) -> None:
        """See :class:`interlock.gateway.ports.Proves`."""
        given = await self._own_headers()
        if self._signer is not None:
            await self._signer.headers(None, Outgoing("GET", f"{self._base_url}/", given, b""))

    def _http(self) -> httpx2.AsyncClient:
        if self._client is None:
            import httpx2

            timeout = httpx2.Timeout(self._settings.idle_timeout_s, connect=self._settings.connect_timeout_s, pool=10.0)
            # How many calls go out at once is for `max_concurrency` and its queue to say.
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
            self._client = httpx2.AsyncClient(timeout=timeout, limits=limits, follow_redirects=False)
        return self._client

    async def get_json(self, path: str, headers: Mapping[str, str] | None = None, *, ctx: Context | None = None) -> Any:
        """Decoded JSON of a GET. Any: a foreign service's answer, narrowed by the caller."""
        async with self._request("GET", path, headers, None, ctx=ctx) as response:
            return _decoded(await _whole(response, self._name), self._name)

    async def list_models(self, path: str, headers: Mapping[str, str] | None = None) -> list[str]:
        """Sorted ids of a model list, which OpenAI and Anthropic shape alike. Raises: ProviderError."""
        answer = await self.get_json(path, headers)
        try:
            # A few servers send the list without an envelope.
            return sorted(str(row["id"]) for row in (answer if isinstance(answer, list) and answer else answer["data"]))
        except (KeyError, TypeError) as error:
            raise ProviderError(f"provider {self._name!r} lists no models", provider=self._name) from error

    async def post_json(
        self, path: str, headers: Mapping[str, str] | None, body: Mapping[str, Any], *, ctx: Context | None = None
    ) -> Any:
        """Decoded JSON of a POST."""
        async with self._request("POST", path, headers, encoded(body), ctx=ctx) as response:
            return _decoded(await _whole(response, self._name), self._name)

    async def post_bytes(self, ctx: Context, path: str, content_type: str, body: bytes) -> Any:
        """Decoded JSON of a POST of something else than JSON: a form with a file."""
        async with self._request("POST", path, {"content-type": content_type}, body, ctx=ctx) as response:
            return _decoded(await _whole(response, self._name), self._name)

    async def delete(self, ctx: Context, path: str, headers: Mapping[str, str] | None = None) -> None:
        """Remove something there; what is gone already is no error."""
        try:
            async with self._request("DELETE", path, headers, None, ctx=ctx) as response:
                await _whole(response, self._name)
        except NotFound:
            return

    async def get_lines(
        self, ctx: Context, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[str, None]:
        """Lines of a file as they arrive. Raises: ProviderError: one is over 8 MB, or all are over 1 GB."""
        async with (
            self._request("GET", path, headers, None, ctx=ctx) as response,
            aclosing(_lines(_bounded(response.aiter_bytes(), self._name), self._name)) as lines,
        ):
            async for line in lines:
                yield line

    async def post_events(
        self, ctx: Context, path: str, headers: Mapping[str, str] | None, body: Mapping[str, Any]
    ) -> AsyncGenerator[str, None]:
        """The ``data:`` payloads of a server-sent event stream, joined over lines, comments dropped.

        The caller's task is cancelled at its deadline, which closes the stream.
        """
        async with self._request("POST", path, headers, encoded(body), ctx=ctx) as response:
            if response.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
                # A server that does not stream gave its answer whole, which every decoder takes for one event.
                yield (await _whole(response, self._name)).decode("utf-8", "replace")
                return
            async with aclosing(_events(response.aiter_bytes(), self._name)) as events:
                async for data in events:
                    yield data

    async def post_frames(
        self, ctx: Context, path: str, headers: Mapping[str, str] | None, body: Mapping[str, Any]
    ) -> AsyncGenerator[Frame, None]:
        """The messages of an AWS event stream. Raises: ProviderError: a checksum is wrong, a frame is over 8 MB."""
        from interlock.gateway.clouds.eventstream import EventStreamError, FrameReader

        reader = FrameReader(_MAX_EVENT_BYTES)
        async with self._request("POST", path, headers, encoded(body), ctx=ctx) as response:
            async for piece in response.aiter_bytes():
                try:
                    for frame in reader.feed(piece):
                        yield frame
                except OverflowError as error:
                    raise _event_too_large(self._name) from error
                except EventStreamError as error:
                    raise ProviderError(
                        f"provider {self._name!r} sent a damaged frame: {error}", provider=self._name, retryable=True
                    ) from error
            if reader.inside:
                raise ProviderError(
                    f"provider {self._name!r} broke off inside a frame", provider=self._name, retryable=True
                )

    async def head_of(
        self, ctx: Context, path: str, headers: Mapping[str, str] | None = None
    ) -> tuple[str, dict[str, str]]:
        """Address and headers, in lower case, of a POST of JSON whose signature does not depend on its body.

        Raises: Misconfigured, Unavailable: the key cannot be read.
        """
        given = {"content-type": "application/json", **(headers or {}), **await self._own_headers()}
        if self._signer is not None:
            added = await self._signer.headers(ctx, Outgoing("POST", self._base_url + path, given, b""))
            fixed = {name.lower() for name in self._settings.headers}
            given |= {name: value for name, value in added.items() if name.lower() not in fixed}
        return self._base_url + path, {name.lower(): value for name, value in given.items()}

    async def relay(self, ctx: Context, path: str, headers: Mapping[str, str], body: bytes) -> RelayAnswer:
        """Send a body as it is; the answer's body comes as it arrives. A failure status raises before that."""
        async with AsyncExitStack() as opening:
            response = await opening.enter_async_context(self._request("POST", path, headers, body, ctx=ctx))
            body_of = _Body(response.aiter_bytes(), opening.pop_all())
        kind = response.headers.get("content-type", "application/octet-stream")
        return RelayAnswer(response.status_code, kind, body_of)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        *,
        ctx: Context | None,
    ) -> AsyncIterator[httpx2.Response]:
        import httpx2

        try:
            async with aclosing(self._tries(method, path, headers, body, ctx)) as tries:
                async for response in tries:
                    yield response
                    return
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

    async def _tries(
        self, method: str, path: str, headers: Mapping[str, str] | None, body: bytes | None, ctx: Context | None
    ) -> AsyncGenerator[httpx2.Response, None]:
        """The first good answer. A refused key is read anew and tried once more: it may just have been rotated."""
        for last in (False, True):
            given = {**(headers or {}), **await self._own_headers()}
            if body is not None and "content-type" not in given:
                given["content-type"] = "application/json"
            request = self._http().build_request(method, self._base_url + path, headers=given, content=body)
            fixed = {name.lower() for name in self._settings.headers}
            if self._signer is not None:
                call = Outgoing(method, str(request.url), given, body or b"")
                added = await self._signer.headers(ctx, call)
                request.headers.update({name: value for name, value in added.items() if name not in fixed})
            response = await self._http().send(request, stream=True)
            try:
                if response.status_code < 400:
                    yield response
                    return
                error = status_error(self._name, response.status_code, response.headers, await _beginning(response))
                refused = error.upstream_status if isinstance(error, ProviderError) else None
                if not last and refused and self._signer is not None and self._signer.forget(refused):
                    continue
                raise error
            finally:
                await response.aclose()

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


async def _bounded(pieces: AsyncIterator[bytes], provider: str) -> AsyncGenerator[bytes, None]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > _MAX_FILE_BYTES:
            raise ProviderError(f"provider {provider!r} sent a file over 1 GB", provider=provider)
        yield piece


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


async def _beginning(response: httpx2.Response) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.aiter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_ERROR_BYTES:
            break
    return b"".join(pieces)


async def _whole(response: httpx2.Response, provider: str) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.aiter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_ANSWER_BYTES:
            raise ProviderError(f"provider {provider!r} sent an answer over 128 MB", provider=provider)
    return b"".join(pieces)


class _Body:
    """A relayed body. A generator would not do: closed before its first step, it would leave the connection open."""

    def __init__(self, pieces: AsyncIterator[bytes], owned: AsyncExitStack) -> None:
        self._pieces = pieces
        self._owned = owned

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except BaseException as error:
            # The stack turns what the connection raises into our errors, and ends with it.
            await self._owned.__aexit__(type(error), error, error.__traceback__)
            raise

    async def aclose(self) -> None:
        """Hang up."""
        await self._owned.aclose()


def encoded(body: Mapping[str, Any]) -> bytes:
    """JSON as it is sent. Raises: InvalidInput: a number is not finite."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, from JSON that escaped it: escaped again it can travel.
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise InvalidInput("a number in the request is not finite", code="invalid_number") from error
