"""What this part talks about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from interlock.core.ids import TenantId

__all__ = ["AuditLine", "Head", "Verification"]


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line as read back."""

    seq: int
    """Position in the log, from 0."""
    at: datetime
    tenant: TenantId
    actor: str
    end_user: str
    """Unsealed; ``erased`` once the person was forgotten, empty when there was none."""
    action: str
    subject: str
    outcome: str
    details: Mapping[str, str | int | bool]
    trace_id: str
    leaf: str
    """Hex RFC 6962 leaf hash."""


class Head(NamedTuple):
    """A signed root."""

    size: int
    root: str
    """Hex."""
    at: datetime
    signature: str
    """Base64 Ed25519 over ``interlock-audit-head\\n{size}\\n{root}\\n{at}``."""


class Verification(NamedTuple):
    """Result of checking the whole log."""

    ok: bool
    size: int
    root: str
    problems: tuple[str, ...]
    """What is wrong, most telling first; empty when the log is whole."""
