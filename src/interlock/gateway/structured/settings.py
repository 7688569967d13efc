"""How a route gets answers into the form that was asked for."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["StructuredSpec"]


class StructuredSpec(BaseModel):
    """`structured` of a route."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["auto", "native", "tool", "prompt"] = Field(
        default="auto",
        description="how a JSON Schema is had: auto: by the provider where it can, else by a tool that takes the"
        " answer, else by instructions; native: by the provider or not at all",
    )
    repairs: int = Field(default=2, ge=0, le=5, description="further tries with the fault named; each is charged")
    check: bool = Field(
        default=False,
        description="also check what the provider enforces; the answer is then held back until it is whole",
    )
    tools: Literal["auto", "native"] = Field(
        default="auto", description="auto: a model without tools is told of them and its text is read for calls"
    )
