"""Tell when a source becomes stale or cannot be read, and when it is well again: audit log, log, and a webhook."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from interlock.core.audit import AuditEvent
from interlock.core.context import Context
from interlock.core.errors import Misconfigured
from interlock.flows.parts import Parts
from interlock.knowledge.settings import AlertSettings
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.types import SourceStatus

__all__ = ["SIGNATURE", "Post", "post_with", "state_of", "tell_changes"]

SIGNATURE = "x-interlock-signature-256"
_TIMEOUT_S = 10.0
_log = logging.getLogger("interlock.sources")

Post = Callable[[Mapping[str, object]], Awaitable[bool]]
"""Sends one message; False when it did not arrive and is to be tried again."""


def state_of(status: SourceStatus) -> str:
    """``failing`` (its last run did not reach it), ``stale``, ``fresh``, or empty where neither is known."""
    if status.error_code:
        return "failing"
    if status.stale is None:
        return "fresh" if status.synced_at else ""
    # One that was never read has had no chance yet, until its first run.
    return "stale" if status.stale and status.attempted_at else "fresh" if not status.stale else ""


async def tell_changes(parts: Parts, ctx: Context, specs: Iterable[SourceSpec], post: Post | None) -> list[str]:
    """Look at every source, and tell those whose state is another than the one told last; gives what was told.

    Of several workers one tells. What could not be delivered is told again by the next look.
    """
    told: list[str] = []
    for spec in specs:
        for status in await parts.knowledge.sources(ctx, spec):
            state = state_of(status)
            before = status.told or "fresh"
            if state in {"", before} or not await parts.knowledge.told(ctx, spec, status.name, status.told, state):
                continue
            message = _message(status, state)
            if post is not None and not await post(message):
                await parts.knowledge.told(ctx, spec, status.name, state, status.told)
                continue
            details: dict[str, str | int | bool] = {"source": status.name, "was": before}
            event = AuditEvent(ctx.tenant, ctx.principal.id, f"source.{state}", spec.collection, "ok", details)
            await parts.governance.append(event)
            level = logging.INFO if state == "fresh" else logging.WARNING
            _log.log(level, "source %s of %s is %s", status.name, spec.collection, state)
            told.append(f"{spec.collection}/{status.name} {state}")
    return told


def _message(status: SourceStatus, state: str) -> dict[str, object]:
    return {
        "type": f"source.{state}",
        "collection": status.collection,
        "source": status.name,
        "owner": status.owner,
        "last_read": None if status.synced_at is None else status.synced_at.isoformat(),
        "stale_since": None if status.stale_since is None else status.stale_since.isoformat(),
        "error_code": status.error_code,
    }


def post_with(settings: AlertSettings, environ: Mapping[str, str]) -> Post | None:
    """Posts to the configured address, signed where a secret is named; None without an address.

    Raises: Misconfigured: the variable that holds the secret is empty.
    """
    if settings.url is None:
        return None
    url = settings.url
    secret = environ.get(settings.secret_env, "") if settings.secret_env else ""
    if settings.secret_env and not secret:
        raise Misconfigured(
            f"knowledge.alerts.secret_env names {settings.secret_env}, which is not set", param="knowledge.alerts"
        )

    async def post(message: Mapping[str, object]) -> bool:
        import httpx2

        body = json.dumps(message).encode()
        headers = {"content-type": "application/json"}
        if secret:
            headers[SIGNATURE] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        try:
            async with httpx2.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False) as client:
                answer = await client.post(url, content=body, headers=headers)
        except (httpx2.HTTPError, OSError) as error:
            _log.warning("an alert did not arrive: %s", type(error).__name__)
            return False
        if not answer.is_success:
            _log.warning("an alert was answered with %d", answer.status_code)
        return answer.is_success

    return post
