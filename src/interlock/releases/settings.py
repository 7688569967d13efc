"""Section `releases` of the workspace's settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from interlock.releases.flags.types import FlagName, FlagSpec
from interlock.releases.promotion import PromotionPolicy

__all__ = ["ReleaseSettings"]


class ReleaseSettings(BaseModel):
    """What holds for every app; an app's own file may ask for more, never for less."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: dict[Literal["stage", "prod"], PromotionPolicy] = Field(
        default_factory=dict, description="what a release must have shown before a channel points at it"
    )

    flags: dict[FlagName, FlagSpec] = Field(
        default_factory=dict, description="what any app's code may ask for by name, see how-to/flags.md"
    )

    trusted_keys: list[Annotated[str, StringConstraints(min_length=44, max_length=44)]] = Field(
        default_factory=list,
        description="public keys (`interlock audit head` prints one) of installations whose releases may be imported",
    )

    def by_channel(self) -> dict[str, PromotionPolicy]:
        """The same under plain names."""
        return {str(name): policy for name, policy in self.channels.items()}
