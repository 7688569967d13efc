"""Section `access` of `interlock.yaml`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AccessSettings"]


class AccessSettings(BaseModel):
    """How callers prove who they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    anonymous: bool = Field(
        default=True, description="single-user mode: calls from loopback without a key are the local owner"
    )
    users: str | None = Field(default=None, description="directory file, relative to the workspace")
    token_max_age_s: int = Field(default=900, ge=30, le=86_400, description="longest life of an on-behalf-of token")
    session_hours: float = Field(default=12.0, gt=0, le=24 * 30, description="how long a sign-in to the console lasts")
    sign_in_attempts: int = Field(default=8, ge=1, description="failed sign-ins per account and address in 15 minutes")
