"""One small HTTP call with a bound on its time and its answer: token endpoints, metadata servers, secret stores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from interlock.core.errors import Unavailable

__all__ = ["Answer", "call"]

_MOST_BYTES = 1_000_000


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes

    def json(self, what: str) -> Any:
        """Decoded body. Any: a foreign service's answer, narrowed by the caller. Raises: Unavailable."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise Unavailable(f"{what} sent no JSON", code="secret_store_unavailable") from error


async def call(
    method: str,
    url: str,
    *,
    what: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = 5.0,
) -> Answer:
    """One call, no redirects, at most a megabyte of answer.

    Args:
        what: who is called, for messages.

    Raises: Unavailable: not reached, too slow, too long.
    """
    import httpx2

    try:
        async with (
            httpx2.AsyncClient(timeout=timeout_s, follow_redirects=False, trust_env=False) as client,
            client.stream(method, url, headers=dict(headers or {}), content=body) as response,
        ):
            pieces: list[bytes] = []
            size = 0
            async for piece in response.aiter_bytes():
                pieces.append(piece)
                size += len(piece)
                if size > _MOST_BYTES:
                    raise Unavailable(f"{what} sent more than a megabyte", code="secret_store_unavailable")
            return Answer(response.status_code, b"".join(pieces))
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise Unavailable(
            f"{what} cannot be asked: {type(error).__name__}",
            code="secret_store_unavailable",
            hint="check its address and that it can be reached from here",
        ) from error
