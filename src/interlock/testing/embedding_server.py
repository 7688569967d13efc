"""A server of embeddings as OpenAI's API describes them, in this process: strict about requests, steady in its answers.

Vectors are those of `HashEmbedder`, so texts that share words are near each other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from interlock.testing.embedders import HashEmbedder

__all__ = ["EmbeddingServer", "embedding_server"]

_FIELDS = {"model", "input", "encoding_format", "dimensions", "user"}
_MOST_INPUTS = 2048


@dataclass(slots=True)
class EmbeddingServer:
    """What a test knows and decides of the server."""

    url: str = ""
    key: str = "sk-test"
    model: str = "embed-1"
    dimensions: int = 48
    max_words: int = 500
    """A longer text is refused, as the API refuses it."""
    failures: list[int] = field(default_factory=list)
    """Status codes of the next requests, in order; then all goes well."""
    is_away: bool = False
    """Every request fails with 503."""
    requests: list[list[str]] = field(default_factory=list)
    """The texts of every request that was answered."""

    @property
    def texts(self) -> list[str]:
        """Every text that was embedded, in order."""
        return [text for request in self.requests for text in request]

    # Any: JSON.
    def answer(self, headers: Any, body: Any) -> tuple[int, dict[str, Any]]:
        """Status and body of one request."""
        if headers.get("authorization") != f"Bearer {self.key}":
            return _error(401, "invalid_api_key", "Incorrect API key provided")
        if self.is_away:
            return _error(503, "server_error", "overloaded")
        if self.failures:
            status = self.failures.pop(0)
            return _error(status, "rate_limit_exceeded" if status == 429 else "server_error", "later")
        if not isinstance(body, dict) or not set(body) <= _FIELDS or body.get("model") != self.model:
            return _error(400, "invalid_request_error", "unknown field or model")
        texts = body.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not 1 <= len(texts) <= _MOST_INPUTS or not all(texts):
            return _error(400, "invalid_request_error", "input is 1 to 2048 texts, none of them empty")
        if max(len(str(text).split()) for text in texts) > self.max_words:
            return _error(400, "context_length_exceeded", "maximum context length")
        vectors = asyncio.run(HashEmbedder(dimensions=self.dimensions, max_tokens=10**6).embed(texts, "passage"))
        self.requests.append(texts)
        # Not of unit length, as many models' are not.
        data = [
            {"object": "embedding", "index": at, "embedding": (3 * vector).tolist()}
            for at, vector in enumerate(vectors)
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return 200, {"object": "list", "data": data, "model": self.model, "usage": usage}


def _error(status: int, kind: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": kind, "param": None, "code": kind}}


@contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    """A server on a free loopback port; `url` is a provider's `base_url`."""
    told = EmbeddingServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            if not self.path.endswith("/embeddings"):
                status, body = _error(404, "invalid_request_error", "no such path")
            else:
                status, body = told.answer(self.headers, json.loads(raw or b"null"))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            if status == 429:
                self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
