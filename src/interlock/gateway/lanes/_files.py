"""What batch APIs over files have in common."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from interlock.core.errors import InterlockError, InvalidInput, NotFound, ProviderError
from interlock.core.ids import new_id
from interlock.gateway.http import encoded

__all__ = ["LABEL", "begun_at", "bytes_of", "form", "once", "over"]

# Any in this module: JSON.
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LABEL = "interlock_lane"
"""Name of our label at the provider."""


async def once(body: Mapping[str, Any]) -> AsyncGenerator[str, None]:
    """A whole answer as the one event that decoders of streams take it for."""
    yield json.dumps(body)


def bytes_of(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON lines."""
    return b"".join(encoded(row) + b"\n" for row in rows)


def form(fields: Mapping[str, str], name: str, content: bytes) -> tuple[str, bytes]:
    """Content type and body of a form with one file."""
    edge = new_id("form")
    head = "".join(
        f'--{edge}\r\ncontent-disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    )
    head += f'--{edge}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
    head += "content-type: application/jsonl\r\n\r\n"
    return f"multipart/form-data; boundary={edge}", head.encode() + content + f"\r\n--{edge}--\r\n".encode()


def begun_at(key: str) -> datetime:
    """When a label was made: its ULID says so."""
    number = 0
    for letter in key.rpartition("-")[2][:10].upper():
        number = number * 32 + _CROCKFORD.index(letter)
    return datetime.fromtimestamp(number / 1000, UTC)


def over(error: InterlockError) -> bool:
    """True when a provider refuses to change something that has ended or is gone."""
    ended = isinstance(error, ProviderError) and error.upstream_status == 409
    return ended or isinstance(error, (NotFound, InvalidInput))
