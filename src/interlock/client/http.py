"""The transports: `AsyncClient` and `Client`, the same calls over httpx2."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx2

from interlock.client.calls import Call, Reader, chat_call, error_of, read_answer, read_passages, search_call
from interlock.client.types import Answer, Passage, StreamEvent

__all__ = ["AsyncClient", "Client"]

Messages = str | Sequence[Mapping[str, str]]
"""A question, or turns as ``{"role": …, "content": …}``."""

Variables = Mapping[str, Any]  # Any: JSON values
"""Values for the variables that the app's prompt declares."""


class _Base:
    """What both clients keep."""

    def __init__(
        self, base_url: str = "http://127.0.0.1:8321", *, api_key: str | None = None, timeout_s: float = 120.0
    ) -> None:
        self._base_url = base_url.rstrip("/").removesuffix("/v1")
        self._api_key = api_key
        self._timeout = httpx2.Timeout(timeout_s, connect=10.0)

    def _call(
        self,
        app: str,
        messages: Messages,
        *,
        stream: bool,
        on_behalf_of: str | None,
        conversation: str | None,
        variables: Variables | None,
    ) -> Call:
        return chat_call(
            app,
            messages,
            stream=stream,
            api_key=self._api_key,
            on_behalf_of=on_behalf_of,
            conversation=conversation,
            variables=variables,
        )


class AsyncClient(_Base):
    """Asks from asyncio code. Use as ``async with``."""

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        self._http = httpx2.AsyncClient(base_url=self._base_url, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self._http.aclose()

    async def ask(
        self,
        app: str,
        messages: Messages,
        *,
        on_behalf_of: str | None = None,
        conversation: str | None = None,
        variables: Variables | None = None,
    ) -> Answer:
        """The whole answer. Network.

        Args:
            variables: values for the prompt of the app.

        Raises: ApiError, with the wrong variable as its `param`; httpx2.HTTPError.
        """
        call = self._call(
            app,
            messages,
            stream=False,
            on_behalf_of=on_behalf_of,
            conversation=conversation,
            variables=variables,
        )
        response = await self._http.post(call.path, json=call.body, headers=call.headers)
        if response.status_code >= 400:
            raise error_of(response.status_code, response.content, response.headers.get("retry-after"))
        return read_answer(response.json())

    async def search(
        self,
        collection: str,
        query: str,
        *,
        limit: int = 8,
        mode: str = "hybrid",
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - what every search interface calls it. Any: a value
        on_behalf_of: str | None = None,
    ) -> list[Passage]:
        """The passages that answer best, among those the caller may read. Network. Raises: ApiError, httpx2.HTTPError.

        Args:
            collection: where to look.
            query: a question; no syntax.
            limit: at most 200.
            mode: `hybrid`, `dense` or `lexical`.
            filter: conditions on metadata, as of the search API.
            on_behalf_of: a token of the person to search for.
        """
        call = search_call(
            collection,
            query,
            limit=limit,
            mode=mode,
            filter=filter or {},
            api_key=self._api_key,
            on_behalf_of=on_behalf_of,
        )
        response = await self._http.post(call.path, json=call.body, headers=call.headers)
        if response.status_code >= 400:
            raise error_of(response.status_code, response.content, response.headers.get("retry-after"))
        return read_passages(response.json())

    async def stream(
        self,
        app: str,
        messages: Messages,
        *,
        on_behalf_of: str | None = None,
        conversation: str | None = None,
        variables: Variables | None = None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """A quote early, each checked sentence, the Answer last. Closing it stops the server's work."""
        call = self._call(
            app,
            messages,
            stream=True,
            on_behalf_of=on_behalf_of,
            conversation=conversation,
            variables=variables,
        )
        reader = Reader()
        async with self._http.stream("POST", call.path, json=call.body, headers=call.headers) as response:
            if response.status_code >= 400:
                raise error_of(response.status_code, await response.aread(), response.headers.get("retry-after"))
            async for line in response.aiter_lines():
                event = reader.feed(line)
                if event is not None:
                    yield event
        yield reader.finish()


class Client(_Base):
    """Asks from ordinary code. Use as ``with``."""

    def __enter__(self) -> Self:
        """Open the connection pool."""
        self._http = httpx2.Client(base_url=self._base_url, timeout=self._timeout)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._http.close()

    def ask(
        self,
        app: str,
        messages: Messages,
        *,
        on_behalf_of: str | None = None,
        conversation: str | None = None,
        variables: Variables | None = None,
    ) -> Answer:
        """The whole answer. Network.

        Args:
            variables: values for the prompt of the app.

        Raises: ApiError, with the wrong variable as its `param`; httpx2.HTTPError.
        """
        call = self._call(
            app,
            messages,
            stream=False,
            on_behalf_of=on_behalf_of,
            conversation=conversation,
            variables=variables,
        )
        response = self._http.post(call.path, json=call.body, headers=call.headers)
        if response.status_code >= 400:
            raise error_of(response.status_code, response.content, response.headers.get("retry-after"))
        return read_answer(response.json())

    def search(
        self,
        collection: str,
        query: str,
        *,
        limit: int = 8,
        mode: str = "hybrid",
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - what every search interface calls it. Any: a value
        on_behalf_of: str | None = None,
    ) -> list[Passage]:
        """The passages that answer best, among those the caller may read. Network. Raises: ApiError, httpx2.HTTPError.

        Args:
            collection: where to look.
            query: a question; no syntax.
            limit: at most 200.
            mode: `hybrid`, `dense` or `lexical`.
            filter: conditions on metadata, as of the search API.
            on_behalf_of: a token of the person to search for.
        """
        call = search_call(
            collection,
            query,
            limit=limit,
            mode=mode,
            filter=filter or {},
            api_key=self._api_key,
            on_behalf_of=on_behalf_of,
        )
        response = self._http.post(call.path, json=call.body, headers=call.headers)
        if response.status_code >= 400:
            raise error_of(response.status_code, response.content, response.headers.get("retry-after"))
        return read_passages(response.json())

    def stream(
        self,
        app: str,
        messages: Messages,
        *,
        on_behalf_of: str | None = None,
        conversation: str | None = None,
        variables: Variables | None = None,
    ) -> Generator[StreamEvent, None, None]:
        """A quote early, each checked sentence, the Answer last. Closing it stops the server's work."""
        call = self._call(
            app,
            messages,
            stream=True,
            on_behalf_of=on_behalf_of,
            conversation=conversation,
            variables=variables,
        )
        reader = Reader()
        with self._http.stream("POST", call.path, json=call.body, headers=call.headers) as response:
            if response.status_code >= 400:
                raise error_of(response.status_code, response.read(), response.headers.get("retry-after"))
            for line in response.iter_lines():
                event = reader.feed(line)
                if event is not None:
                    yield event
        yield reader.finish()
