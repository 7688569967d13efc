"""The component `prompt` of a release."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PromptSpec", "Variable"]

Variable = Literal["app", "today", "user", "groups"]
"""What a template may use. `today` is an ISO date; `user` is the end user's id or an empty string."""


class PromptSpec(BaseModel):
    """A system prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = Field(max_length=200_000, description="Jinja template of the system message")
    title: str = ""
    description: str = ""
