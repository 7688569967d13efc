"""Asking an index over HTTP: who asks, how long, how much, how often, and errors without anybody's text or secrets."""

from __future__ import annotations

import base64
import json
import random
import re
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio

from interlock import __version__
from interlock.core.context import Context
from interlock.core.errors import InterlockError, LimitExceeded, Misconfigured, Unavailable
from interlock.knowledge.external.settings import Credentials, ExternalIndex

if TYPE_CHECKING:
    import httpx2

__all__ = ["IndexClient"]

_AGAIN = frozenset({429, 502, 503, 504})
_LONGEST_PAUSE_S = 5.0


class IndexClient:
    """One index. Redirects are not followed: they would take the credentials along.

    Args:
        collection: for messages.
        spec: where it is, and its bounds.
        environ: holds the secrets that the spec names.
    """

    def __init__(self, collection: str, spec: ExternalIndex, environ: Mapping[str, str]) -> None:
        self._what = f"the index of the collection {collection!r}"
        self._spec = spec
        self._environ = environ
        self._client: httpx2.AsyncClient | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    # Any: JSON of the index, narrowed by whoever asked.
    async def search(self, ctx: Context, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """One answer of ``_search``, whole: an index of which a part is away is an error.

        Raises: Unavailable, with a code that begins with `index_`; LimitExceeded: it asks for less; Misconfigured:
        an environment variable is missing; DeadlineExceeded.
        """
        spec = self._spec
        url = f"{spec.url}/{spec.index}/_search?allow_partial_search_results=false"
        content = json.dumps(body).encode()
        with ctx.span("knowledge.index", kind=spec.kind) as (span, inner):
            status, answer = 0, b""
            wait_s: float | None = None
            for attempt in range(spec.retries + 1):
                inner.deadline.check("asking the index")
                try:
                    status, answer, asked_s = await self._once(url, content, inner.deadline.remaining_s())
                except Unavailable as error:
                    if attempt == spec.retries or error.code != "index_unreachable":
                        raise
                    await anyio.sleep(_pause(attempt))
                    continue
                if status not in _AGAIN:
                    break
                wait_s = asked_s if asked_s is not None else _pause(attempt)
                if attempt == spec.retries or wait_s > min(_LONGEST_PAUSE_S, inner.deadline.remaining_s()):
                    break
                await anyio.sleep(wait_s)
            span.set(status=status, bytes=len(answer), attempts=attempt + 1)
        if status != 200:
            raise self._refusal(status, answer, wait_s)
        found = self._read(answer)
        if found.get("timed_out") is True:
            raise self._error("did not finish in its time", "index_timeout", hint="raise index.timeout_s")
        return found

    async def _once(self, url: str, content: bytes, remaining_s: float) -> tuple[int, bytes, float | None]:
        import httpx2

        spec = self._spec
        headers = {"content-type": "application/json", "accept": "application/json", **self._credentials(spec.auth)}
        try:
            client = await self._opened()
            with anyio.fail_after(min(spec.timeout_s, remaining_s)):
                async with client.stream("POST", url, content=content, headers=headers) as response:
                    pieces, size = [], 0
                    async for piece in response.aiter_bytes():
                        size += len(piece)
                        if size > spec.max_response_bytes:
                            raise self._error(
                                f"answers with more than {spec.max_response_bytes} bytes",
                                "index_answer_too_large",
                                hint="lower knowledge.candidates, or raise index.max_response_bytes",
                            )
                        pieces.append(piece)
                    return response.status_code, b"".join(pieces), _seconds(response.headers.get("retry-after"))
        except InterlockError:
            raise
        except (TimeoutError, httpx2.TimeoutException) as error:
            # Not asked again: the caller waited long enough, and the index has enough to do.
            raise self._error("does not answer in its time", "index_timeout", hint="raise index.timeout_s") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            raise self._error(
                f"cannot be reached: {type(error).__name__}",
                "index_unreachable",
                hint="check index.url, index.ca_file, and that this machine reaches it",
            ) from error

    async def _opened(self) -> httpx2.AsyncClient:
        import httpx2

        if self._client is None:
            verify: ssl.SSLContext | bool = True
            if self._spec.ca_file is not None:
                try:
                    verify = ssl.create_default_context(cafile=str(self._spec.ca_file))
                except (OSError, ssl.SSLError) as error:
                    raise Misconfigured(
                        f"{self._what}: its certificates cannot be read: {self._spec.ca_file}",
                        param="index.ca_file",
                    ) from error
            self._client = httpx2.AsyncClient(
                verify=verify,
                timeout=self._spec.timeout_s,
                follow_redirects=False,
                trust_env=False,
                headers={"user-agent": f"interlock/{__version__} (knowledge)"},
            )
        return self._client

    def _credentials(self, auth: Credentials | None) -> Mapping[str, str]:
        if auth is None:
            return {}
        if auth.api_key_env is not None:
            return {"authorization": f"ApiKey {self._secret(auth.api_key_env)}"}
        if auth.bearer_env is not None:
            return {"authorization": f"Bearer {self._secret(auth.bearer_env)}"}
        assert auth.user_env is not None, "checked with the file"
        assert auth.password_env is not None, "checked with the file"
        pair = f"{self._secret(auth.user_env)}:{self._secret(auth.password_env)}"
        return {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    def _secret(self, variable: str) -> str:
        value = self._environ.get(variable, "").strip()
        if not value or not value.isprintable():
            raise Misconfigured(
                f"{self._what} needs the environment variable {variable}", param="index.auth", hint="set it and restart"
            )
        return value

    def _read(self, answer: bytes) -> Mapping[str, Any]:
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise self.malformed("no JSON") from error
        if not isinstance(found, dict):
            raise self.malformed("no object")
        return found

    def malformed(self, told: str) -> Unavailable:
        """What came back is not what the API is documented to give."""
        return self._error(f"gave an answer that cannot be read: {told}", "index_malformed", hint="check index.url")

    def _refusal(self, status: int, answer: bytes, wait_s: float | None) -> InterlockError:
        if status == 429:
            return LimitExceeded(f"{self._what} asks for less", retry_after_s=wait_s or 1.0)
        if status in {401, 403}:
            # Not the caller's key: that one was good.
            return self._error(
                f"refuses our credentials ({status})",
                "index_refused",
                hint="check the variables that index.auth names, and their right to read the index",
            )
        if status == 404:
            return self._error("is not there (404)", "index_not_found", hint="check index.index and index.url")
        if status == 400:
            return self._error(
                f"does not understand the question ({_kind_of(answer)})",
                "index_query_refused",
                hint="check index.kind, and that the names and types under index.fields and index.vector are the "
                "index's own",
            )
        retryable = status >= 500
        return self._error(f"answered {status}", "index_unreachable", hint="see the index's own log", again=retryable)

    def _error(self, told: str, code: str, *, hint: str, again: bool | None = None) -> Unavailable:
        if again is None:
            again = code in {"index_timeout", "index_unreachable"}
        return Unavailable(f"{self._what} {told}", code=code, retryable=again, hint=hint)


def _kind_of(answer: bytes) -> str:
    """The class of an error; its reason may repeat what was asked."""
    try:
        error = json.loads(answer)["error"]
        cause = error.get("root_cause") or [error]
        kind = cause[0]["type"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return "400"
    return kind if isinstance(kind, str) and re.fullmatch(r"[a-z_]{1,64}", kind) else "400"


def _seconds(given: str | None) -> float | None:
    return float(given) if given is not None and re.fullmatch(r"[0-9]{1,6}", given.strip()) else None


def _pause(attempt: int) -> float:
    # Not for secrets: callers that failed together must not come back together.
    return float(0.1 * 2**attempt * (1 + random.random()))  # noqa: S311
