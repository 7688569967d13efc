"""Anthropic messages as a server sees them: decode requests, encode answers and events.

Source: the Anthropic API reference for `POST /v1/messages`. Ours alone: the field `interlock`, on the message, and in
a stream on `content_block_delta` and `message_delta`.
"""

from __future__ import annotations

from dataclasses import replace

from interlock.core.errors import InterlockError, InvalidInput, ProviderError
from interlock.core.messages import (
    ChatRequest,
)
from interlock.gateway.fields import parsed
from interlock.gateway.inbound._messages_reply import STATUS, Reply, error_body
from interlock.gateway.inbound._messages_request import WIRE, Count, Request, request_of
from interlock.gateway.ports import Asked, Fault, Inbound, Replier

__all__ = ["decode_count", "plugin"]


class _Messages:
    """The wire `anthropic.messages`."""

    name = WIRE

    def decode(self, body: object, *, model: str | None = None, stream: bool | None = None) -> Asked:
        """See `Inbound`."""
        given = parsed(Request, body)
        assert isinstance(body, dict), "checked above"
        base = request_of(given, body)
        metadata = given.metadata or {}
        tags = {name: value for name, value in metadata.items() if name != "user_id" and isinstance(value, str)}
        user = metadata.get("user_id")
        if user is not None and (not isinstance(user, str) or len(user) > 512):
            raise InvalidInput("metadata.user_id is a text of at most 512 characters", param="metadata.user_id")
        request = replace(
            base,
            stream=bool(given.stream),
            temperature=given.temperature,
            top_p=given.top_p,
            top_k=given.top_k,
            stop=tuple(given.stop_sequences or ()),
            user_hint=user,
            tags=dict(list(tags.items())[:16]),
        )
        return Asked(request, {"citations": _cites(body.get("citations"))})

    def reply(self, asked: Asked) -> Replier:
        """See `Inbound`."""
        return Reply(asked)

    def fault(self, error: InterlockError, request_id: str) -> Fault:
        """See `Inbound`."""
        overloaded = isinstance(error, ProviderError) and error.upstream_status in {503, 529}
        status = 529 if overloaded else STATUS.get(error.status, error.status)
        return Fault(status, {**error_body(error), "request_id": request_id})


def decode_count(body: object) -> ChatRequest:
    """A request of ``/v1/messages/count_tokens``, which has no `max_tokens`. Raises: InvalidInput."""
    given = parsed(Count, body)
    assert isinstance(body, dict), "checked above"
    return request_of(given, body)


def _cites(given: object) -> bool:
    """Ours alone: ``"citations": {"enabled": true}`` asks an app for citations as Anthropic writes them."""
    if given is None:
        return False
    if not isinstance(given, dict) or not isinstance(given.get("enabled"), bool):
        raise InvalidInput('citations is {"enabled": true} or {"enabled": false}', param="citations")
    return bool(given["enabled"])


plugin: Inbound = _Messages()
