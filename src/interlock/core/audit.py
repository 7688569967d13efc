"""Audit, emitted low: what happened, who did it, to what, with which outcome. `governance` stores and proves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from interlock.core.clock import now
from interlock.core.ids import TenantId

__all__ = ["AuditEvent", "AuditLog"]


class AuditEvent(msgspec.Struct, frozen=True):
    """One line of the audit log. Never holds a prompt, an answer or a secret."""

    tenant: TenantId
    actor: str
    """Principal id."""
    action: str
    """``noun.verb``: ``chat.answer``, ``key.create``, ``document.read``."""
    subject: str
    """The thing acted on, as an id."""
    outcome: str
    """``ok`` or a stable error code."""
    details: Mapping[str, str | int | bool] = msgspec.field(default_factory=dict)
    end_user: str = ""
    """Personal: stored sealed under a key of that person, so that erasure can forget it and the proof still holds."""
    trace_id: str = ""
    at: datetime = msgspec.field(default_factory=now)


class AuditLog(Protocol):
    """Append-only."""

    async def append(self, event: AuditEvent) -> None:
        """Append and return once the line is committed: for administrative acts."""

    def append_soon(self, event: AuditEvent) -> None:
        """Queue for the next group commit (within 50 ms): for the request path."""
