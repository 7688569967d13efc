"""Asking somebody else's HTTP API: tokens, 429, paging, bounds, and errors in our own words without secrets."""

from __future__ import annotations

import email.utils
import json
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote, urljoin, urlsplit

import anyio

from interlock import __version__
from interlock.core.clock import now
from interlock.core.errors import (
    Forbidden,
    InterlockError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

__all__ = [
    "Answer",
    "Api",
    "Credentials",
    "NoCredentials",
    "checked_url",
    "host_of",
    "next_link",
    "served_at",
    "straight",
]

AGENT = f"interlock/{__version__} (knowledge)"
_MOST_JSON = 32_000_000
_MOST_REDIRECTS = 5
_ATTEMPTS = 5
_MOST_WAIT_S = 90.0
_WHOLE_ANSWER_S = 300.0


class Credentials(Protocol):
    """Who asks."""

    async def headers(self) -> Mapping[str, str]:
        """Headers to send. Raises: Misconfigured, Unavailable."""

    async def renew(self) -> bool:
        """The token was refused: get it anew. False when there is no other one."""


class NoCredentials:
    """Nobody in particular."""

    async def headers(self) -> Mapping[str, str]:
        """None."""
        return {}

    async def renew(self) -> bool:
        """There is none."""
        return False


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    url: str
    """After redirects."""


class _Call(NamedTuple):
    """A call about to be made."""

    url: str
    params: Mapping[str, str | int] | None
    method: str
    body: bytes | None
    headers: Mapping[str, str]
    most: int
    source: str | None
    leaves: bool
    may: Callable[[str], None] | None = None


def checked_url(url: str) -> str:
    """An http(s) address without a name or password in it. Raises: ValueError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("it is an address that starts with https:// or http://")
    if parts.username or parts.password:
        raise ValueError("it holds a name or password; name an environment variable for the token instead")
    return url


def host_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what two addresses of one site share. Nothing of what is no address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", "", None
    return parts.scheme, parts.hostname or "", port or {"http": 80, "https": 443}.get(parts.scheme)


def straight(url: str) -> str:
    """The address with its dot segments resolved, as whoever answers it does: encoded ones and backslashes too."""
    parts = urlsplit(url)
    decoded = unquote(parts.path, errors="surrogateescape").replace("\\", "/")
    if not {".", ".."} & set(decoded.split("/")):
        return url
    kept: list[str] = []
    steps = decoded.split("/")[1:]
    for step in steps:
        if step == "..":
            del kept[-1:]
        elif step != ".":
            kept.append(step)
    if steps[-1] in {".", ".."}:
        kept.append("")
    path = quote("/" + "/".join(kept), errors="surrogateescape", safe="/~!$&'()*+,;=:@")
    return parts._replace(path=path).geturl()


def served_at(answer: Answer) -> datetime:
    """The service's own time when it answered: the only clock that its times of change go by."""
    parsed = email.utils.parsedate_tz(answer.headers.get("date", ""))
    return now() if parsed is None else datetime.fromtimestamp(email.utils.mktime_tz(parsed), UTC)


def next_link(headers: Mapping[str, str]) -> str | None:
    """The address after ``rel="next"`` of a Link header."""
    found = re.search(r"<([^<>]{1,4000})>\s*;[^,]*rel=\"?next\"?", headers.get("link", ""))
    return found[1] if found else None


class Api:
    """One service.

    Args:
        what: what is asked, for messages.
        base: its address; everything but downloads stays on this host.
        credentials: sent to this host only.
        max_bytes: of one download.
        allow_private: let addresses of private networks be called.
        timeout_s: wait for a connection, and for each piece of an answer.
        trusted: addresses whose hosts belong to the service too and are told who asks.
        meant: the status an answer stands for, of services that say everything with 200.
    """

    def __init__(
        self,
        what: str,
        base: str,
        credentials: Credentials,
        *,
        max_bytes: int,
        allow_private: bool,
        timeout_s: float = 30.0,
        trusted: Sequence[str] = (),
        meant: Callable[[Answer], int] | None = None,
    ) -> None:
        import httpx2

        from interlock.knowledge.connectors._addresses import GuardedTransport

        self._what = what
        self.base = base.rstrip("/")
        self._credentials = credentials
        self._max_bytes = max_bytes
        self._told = {host_of(self.base), *map(host_of, trusted)}
        self._meant = meant
        transport = httpx2.AsyncHTTPTransport(trust_env=False) if allow_private else GuardedTransport()
        self._client = httpx2.AsyncClient(
            transport=transport,
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,
            headers={"user-agent": AGENT},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    # Any in this class: JSON of a foreign service, narrowed by its connector.
    async def json(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        method: str = "GET",
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Any, Answer]:
        """Decoded answer of a path below the base, or of a whole address on its host, and the answer itself.

        Raises: what `ask` raises; Unavailable: no JSON came back.
        """
        answer = await self.ask(
            path,
            params,
            method=method,
            body=None if body is None else json.dumps(body).encode(),
            headers={"accept": "application/json", **(headers or {})},
            most=_MOST_JSON,
        )
        self.must_be_good(answer)
        try:
            return json.loads(answer.body), answer
        except (ValueError, RecursionError) as error:
            raise Unavailable(f"{self._what} sent no JSON", code="source_unreachable") from error

    async def download(self, url: str, *, source: str) -> bytes:
        """The bytes of an address, which may lead to another host: it is not told who asks.

        Raises: NotFound: 403, 404 or 410, for this item alone; TooLarge; and what `ask` raises.
        """
        answer = await self.ask(url, most=self._max_bytes, source=source, leaves=True)
        if answer.status in {403, 404, 410}:
            raise NotFound(f"{self._what} does not give {source!r} away ({answer.status})", param=source)
        self.must_be_good(answer)
        return answer.body

    def must_be_good(self, answer: Answer) -> None:
        """Raises: Unauthenticated, Forbidden, NotFound, Unavailable for a status that is no success."""
        status = answer.status
        if 200 <= status < 300:
            return
        said = f"{self._what} answered {status}"
        if status == 401:
            raise Unauthenticated(
                said, code="source_refused", hint="check the token that the source names and its expiry"
            )
        if status == 403:
            raise Forbidden(said, code="source_refused", hint="give the token the right to read this source")
        if status in {404, 410}:
            raise NotFound(said, hint="check the address, and whether the token may see it", code="source_not_found")
        raise Unavailable(said, code="source_unreachable", retryable=status >= 500)

    async def ask(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        most: int = _MOST_JSON,
        source: str | None = None,
        leaves: bool = False,
        may: Callable[[str], None] | None = None,
    ) -> Answer:
        """One answer of any status but 401 (once), 429 and 5xx, which are asked for again.

        Args:
            most: bytes of the answer.
            source: names the item when its answer is too long.
            leaves: whether the address may lead to another host.
            may: raises for an address that a redirect must not lead to; told each one.

        Raises: Unavailable, Unauthenticated, LimitExceeded, TooLarge, InvalidInput: an address that leaves the host.
        """
        call = _Call(
            self._url(path, leaves=leaves), params, method, body, dict(headers or {}), most, source, leaves, may
        )
        renewed = False
        waited = 0.0
        for attempt in range(_ATTEMPTS):
            try:
                answer = await self._follow(call)
            except Unavailable as error:
                if attempt >= 2 or error.code != "source_unreachable":
                    raise
                await anyio.sleep(_pause(attempt))
                continue
            if answer.status == 401 and not renewed and await self._credentials.renew():
                renewed = True
                continue
            wait_s = _asked_to_wait(answer, attempt)
            if wait_s is None:
                return answer
            waited += wait_s
            if attempt == _ATTEMPTS - 1 or waited > _MOST_WAIT_S:
                break
            await anyio.sleep(wait_s)
        if answer.status >= 500 and answer.status != 503:
            return answer
        raise LimitExceeded(
            f"{self._what} asks for less ({answer.status})",
            retry_after_s=wait_s,
            hint="the next run goes on where this one stopped; make the schedule longer when it happens often",
        )

    def _url(self, path: str, *, leaves: bool) -> str:
        url = path if path.startswith(("https://", "http://")) else f"{self.base}/{path.lstrip('/')}"
        if not leaves and host_of(url) != host_of(self.base):
            raise InvalidInput(f"{self._what} leads to another host", code="left_the_host", param="sources.url")
        return url

    async def _follow(self, call: _Call) -> Answer:
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await self._once(call)
            target = answer.headers.get("location")
            if answer.status not in {301, 302, 303, 307, 308} or target is None or call.method != "GET":
                return answer
            try:
                following = straight(checked_url(urljoin(call.url, target)))
            except ValueError as error:
                raise InvalidInput(f"{self._what} redirects to no web address", code="left_the_host") from error
            if host_of(following) != host_of(call.url) and not call.leaves:
                raise InvalidInput(f"{self._what} redirects to another host", code="left_the_host", param="sources.url")
            if call.url.startswith("https:") and not following.startswith("https:"):
                raise InvalidInput(f"{self._what} redirects to an address without TLS", code="left_the_host")
            if call.may is not None:
                call.may(following)
            call = call._replace(url=following, params=None)
        raise InvalidInput(f"{self._what} redirects more than {_MOST_REDIRECTS} times", code="too_many_redirects")

    async def _once(self, call: _Call) -> Answer:
        import httpx2

        headers = {**call.headers}
        if call.body is not None:
            headers.setdefault("content-type", "application/json")
        if host_of(call.url) in self._told:
            headers |= await self._credentials.headers()
        try:
            with anyio.fail_after(_WHOLE_ANSWER_S):
                async with self._client.stream(
                    call.method, call.url, params=call.params or None, content=call.body, headers=headers
                ) as response:
                    pieces, size = [], 0
                    async for piece in response.aiter_bytes():
                        size += len(piece)
                        if size > call.most:
                            raise self._too_large(call.source, call.most)
                        pieces.append(piece)
                    given = {name.lower(): value for name, value in response.headers.items()}
                    answer = Answer(response.status_code, given, b"".join(pieces), call.url)
                    return answer if self._meant is None else answer._replace(status=self._meant(answer))
        except InterlockError:
            raise
        except httpx2.InvalidURL as error:
            raise InvalidInput(f"{self._what} is asked by what is no address", code="no_address") from error
        except (httpx2.HTTPError, TimeoutError, OSError, ValueError) as error:
            # The exception's own words may hold the address with its query.
            raise Unavailable(
                f"{self._what} cannot be reached: {type(error).__name__}",
                code="source_unreachable",
                hint="check the address and that it can be reached from the machine that ingests",
            ) from error

    def _too_large(self, source: str | None, most: int) -> TooLarge:
        if source is None:
            return TooLarge(f"an answer of {self._what} has more than {most} bytes")
        return TooLarge(
            f"{source!r} has more than {most} bytes",
            param=source,
            hint="leave it out with exclude, or raise knowledge.max_file_bytes",
        )


def _pause(attempt: int) -> float:
    # Not for secrets: workers that failed together must not come back together.
    return float(0.2 * 2**attempt * (1 + random.random()))  # noqa: S311


def _asked_to_wait(answer: Answer, attempt: int) -> float | None:
    """Seconds until the next try; None when this answer stands."""
    status, headers = answer.status, answer.headers
    # GitHub says 403 when the hour's calls are used up.
    spent = status == 403 and headers.get("x-ratelimit-remaining") == "0"
    if status != 429 and status < 500 and not spent:
        return None
    said = headers.get("retry-after", "").strip()
    if said.isdecimal() and len(said) < 9:
        return float(said)
    if said:
        at = email.utils.parsedate_tz(said)
        if at is not None:
            return max(0.0, email.utils.mktime_tz(at) - time.time())
    reset = headers.get("x-ratelimit-reset", "")
    if spent and reset.isdecimal() and len(reset) < 12:
        return max(1.0, int(reset) - time.time())
    return _pause(attempt)
