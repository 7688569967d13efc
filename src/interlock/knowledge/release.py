"""The component `retrieval` of a release: which knowledge an app uses, and how it is searched."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from interlock.knowledge.retrieval.settings import RetrievalSteps
from interlock.knowledge.settings import FusionSettings

__all__ = ["RetrievalSpec"]


class RetrievalSpec(BaseModel):
    """How an app finds its passages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    collection: str = Field(min_length=1, max_length=64)
    embedder: str = Field(default="", description="embedding-space id; filled in when the release is built")
    mode: Literal["follow"] = Field(
        default="follow", description="answer from the newest snapshot; its id is stamped on every answer"
    )
    limit: int = Field(default=8, ge=1, le=100, description="passages handed to the answer")
    context_tokens: int = Field(default=1500, ge=100, le=200_000, description="most tokens of passages")
    search: Literal["hybrid", "dense", "lexical"] = "hybrid"
    fusion: FusionSettings | None = Field(default=None, description="overrides knowledge.fusion")
    steps: RetrievalSteps | None = Field(default=None, description="overrides knowledge.steps")
