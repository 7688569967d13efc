"""The key of an answer: a digest of everything that decides it, and of who may be given it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace

from interlock.core.canonical import digest_json
from interlock.core.context import Context
from interlock.core.messages import ChatRequest, Message, TextPart
from interlock.gateway.cache.settings import CacheSpec
from interlock.gateway.cache.types import CacheScope

__all__ = ["decides", "key_of", "question_key_of", "reader_of"]

_CHANGES_NOTHING = frozenset({"stream", "user_hint", "tags", "native", "variables", "prompt"})
"""Fields of a request that do not change the answer; `native` and `prompt` are looked at by themselves. What variables
change is the prompt that is made with them."""
_NATIVE_CHANGES_NOTHING = frozenset(
    {"stream", "stream_options", "user", "metadata", "safety_identifier", "prompt_cache_key", "store", "model"}
)
_VERSION = 1
"""Goes up when an equal request may no longer be given what an older version kept."""


def reader_of(ctx: Context, scope: CacheScope, spec: CacheSpec) -> str:
    """Fingerprint of what the caller may read; for a call without an app also of whose key it is."""
    who: list[str] = sorted(ctx.readers)
    if scope.release is None and spec.share == "key":
        who.append(f"key:{ctx.principal.key_id or ctx.principal.id}")
    return digest_json(who)


def decides(request: ChatRequest, *, route: Mapping[str, object], residency: tuple[str, ...] = ()) -> object:
    """Everything of a call that decides its answer, as a JSON value.

    Args:
        route: which targets may answer, and what is done with their answers.
        residency: regions that the tenant's requests are held to.
    """
    asked = {item.name: _plain(getattr(request, item.name)) for item in fields(request)}
    native, prompt = request.native, request.prompt
    return {
        **({} if prompt is None or not prompt.variants else {"prompts": _plain(prompt.variants)}),
        "version": _VERSION,
        "route": dict(route),
        "residency": list(residency),
        "request": {name: value for name, value in asked.items() if name not in _CHANGES_NOTHING},
        "native": None
        if native is None
        else {
            "wire": native.wire,
            "body": {k: _plain(v) for k, v in native.body.items() if k not in _NATIVE_CHANGES_NOTHING},
        },
    }


def key_of(
    ctx: Context,
    request: ChatRequest,
    scope: CacheScope,
    spec: CacheSpec,
    *,
    route: Mapping[str, object],
    residency: tuple[str, ...] = (),
) -> str:
    """Hex digest. Calls of two tenants, releases, snapshots, permissions or parameters never have the same."""
    value = {
        "tenant": ctx.tenant,
        "release": scope.release,
        "snapshot": scope.snapshot,
        "reader": reader_of(ctx, scope, spec),
        "call": decides(request, route=route, residency=residency),
    }
    return digest_json(value).removeprefix("sha256:")


def question_key_of(
    ctx: Context,
    request: ChatRequest,
    scope: CacheScope,
    spec: CacheSpec,
    *,
    route: Mapping[str, object],
    residency: tuple[str, ...] = (),
) -> str | None:
    """The key of a call without its question: calls that share it differ in the last user message alone.

    None when the call does not end with a question of plain text.
    """
    if not request.messages or request.messages[-1].role != "user":
        return None
    last = request.messages[-1]
    if any(not isinstance(part, TextPart) for part in last.parts):
        return None
    blank = (*request.messages[:-1], Message("user", (), last.name))
    # The wire's own copy holds the question too; what else it says must be equal, so it is left out of no other key.
    native = request.native
    if native is not None:
        body = {k: v for k, v in native.body.items() if k not in {"messages", "input", "contents"}}
        native = replace(native, body=body)
    blanked = replace(request, messages=blank, native=native)
    return key_of(ctx, blanked, scope, spec, route=route, residency=residency)


def _plain(value: object) -> object:
    """A JSON value that is equal exactly when `value` is; bytes become their digest."""
    if isinstance(value, bytes):
        return {"$sha256": hashlib.sha256(value).hexdigest()}
    if is_dataclass(value) and not isinstance(value, type):
        return {
            "$type": type(value).__name__,
            **{item.name: _plain(getattr(value, item.name)) for item in fields(value)},
        }
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(item) for item in value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return {"$type": type(value).__name__, "is": str(value)}
