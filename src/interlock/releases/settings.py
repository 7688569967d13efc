"""Section `releases` of the workspace's settings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from interlock.releases.promotion import PromotionPolicy

__all__ = ["ReleaseSettings"]


class ReleaseSettings(BaseModel):
    """What holds for every app; an app's own file may ask for more, never for less."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: dict[Literal["stage", "prod"], PromotionPolicy] = Field(
        default_factory=dict, description="what a release must have shown before a channel points at it"
    )

    def by_channel(self) -> dict[str, PromotionPolicy]:
        """The same under plain names."""
        return {str(name): policy for name, policy in self.channels.items()}
