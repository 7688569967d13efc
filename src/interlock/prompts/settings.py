"""Section `prompts` of the workspace's settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PromptSettings"]


class PromptSettings(BaseModel):
    """Where prompts are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = Field(
        default="prompts",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$",
        description="folder of partials and of prompts that several apps share",
    )
