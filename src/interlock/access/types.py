"""What this part talks about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from interlock.core.context import EndUser, Role
from interlock.core.ids import KeyId, TenantId

__all__ = ["Account", "ApiKey", "Behalf", "DirectoryUser", "NewKey", "Session", "Signer", "SigningKey"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as listed: never the secret."""

    id: KeyId
    tenant: TenantId
    name: str
    prefix: str
    """The first characters of the key, enough to recognise it."""
    roles: frozenset[Role]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, at: datetime) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= at else "active"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just created: the only moment its secret exists outside its holder's hands."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True)
class Behalf:
    """What a verified on-behalf-of token says."""

    user: EndUser
    conversation: str | None
    issuer_key: str


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that may sign on-behalf-of tokens of a tenant."""

    kid: str
    tenant: TenantId
    algorithm: str
    """HS256, EdDSA, ES256 or RS256."""
    material: str
    """HMAC secret (unsealed) or PEM public key."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A signing key as listed: never its material."""

    kid: str
    algorithm: str
    created_at: datetime
    revoked_at: datetime | None

    @property
    def state(self) -> str:
        """``active`` or ``revoked``."""
        return "active" if self.revoked_at is None else "revoked"


@dataclass(frozen=True, slots=True)
class DirectoryUser:
    """A person of the workspace's directory file."""

    id: str
    name: str
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Account:
    """A console account."""

    tenant: TenantId
    username: str
    roles: frozenset[Role]
    groups: frozenset[str]
    disabled: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in console session."""

    account: Account
    csrf: str
    expires_at: datetime
