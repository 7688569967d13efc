"""When a route's answers are kept, and for how long."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CacheSpec"]


class CacheSpec(BaseModel):
    """`cache` of a route. Without it nothing is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttl_s: float = Field(gt=0, le=30 * 86_400, description="how long an answer is given again")
    stale_s: float = Field(
        default=0.0, ge=0, le=30 * 86_400, description="how much longer it may stand in under `degrade: [cache]`"
    )
    share: Literal["key", "tenant"] = Field(
        default="key",
        description="who shares answers of calls without an app: one key's callers, or all of the tenant's; callers of"
        " an app share by what they may read",
    )
    max_temperature: float | None = Field(
        default=None, ge=0, le=2, description="calls that sample above this are not cached; empty caches all of them"
    )
    tool_calls: bool = Field(default=False, description="also keep answers that call tools")
    truncated: bool = Field(default=False, description="also keep answers that were cut off at the token limit")
    max_entry_bytes: int = Field(default=262_144, ge=256, le=16_777_216, description="larger answers are not kept")
    max_bytes: int = Field(
        default=67_108_864, ge=1024, description="bytes this route may keep for one tenant; a full cache keeps no more"
    )
    coalesce: bool = Field(default=True, description="equal calls at the same time share one provider call")
    coalesce_wait_s: float = Field(
        default=20.0, gt=0, le=600, description="longest wait for another caller's answer before asking as well"
    )
    semantic: bool = Field(
        default=False, description="also answer questions that mean the same; needs `interlock cache calibrate`"
    )
