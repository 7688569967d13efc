"""How a search follows the graph."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["GraphSettings"]


class GraphSettings(BaseModel):
    """Things that are said of what the question names are looked up too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hops: int = Field(default=1, ge=1, le=2)
    """How far from what the question names."""
    entities: int = Field(default=3, ge=1, le=20)
    """How many further things are looked up; each costs one more search."""
    weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """What the best of their passages gain: 0.5 takes them half of the way to a score of 1."""
    by_model: bool = False
    """A model reads the best passages too and names relations in them (`model.max_calls` and the other bounds hold)."""
