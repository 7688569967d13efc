"""Section `prompts` of the workspace's settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["Level", "PromptSettings", "RuleName"]

Level = Literal["off", "warn", "error"]


def _known(name: str) -> str:
    # Rules are a folder's files: they are listed where somebody names one, not whenever settings are read.
    from interlock.prompts.linting import rules

    if name not in rules.names():
        raise ValueError(f"no rule is called so; rules: {', '.join(rules.names())}")
    return name


RuleName = Annotated[str, StringConstraints(max_length=64), AfterValidator(_known)]


class PromptSettings(BaseModel):
    """Where prompts are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = Field(
        default="prompts",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$",
        description="folder of partials and of prompts that several apps share",
    )
    lint: dict[RuleName, Level] = Field(
        default_factory=dict,
        description="what findings of a rule count as: off, warn or error; an app's own `lint` goes before",
    )
