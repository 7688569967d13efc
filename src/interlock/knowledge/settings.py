"""Settings of knowledge, with defaults that work."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CollectionSettings", "FusionSettings", "KnowledgeSettings"]

MiB = 1024 * 1024


class FusionSettings(BaseModel):
    """How the dense and the lexical leg become one ranking."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["rrf", "convex"] = "convex"
    """`rrf`: by reciprocal ranks; `convex`: by weighted scores."""
    dense_weight: float = Field(default=0.4, ge=0.0, le=1.0)
    """Weight of the dense leg in convex fusion."""
    k: int = Field(default=60, ge=1)
    """Damping of reciprocal rank fusion."""
    document_weight: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of how well a passage's whole document did: for passages that say little alone, as in code."""


class CollectionSettings(BaseModel):
    """What one collection has otherwise than the others: `interlock knowledge tune` proposes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fusion: FusionSettings
    """How its legs become one ranking."""


class KnowledgeSettings(BaseModel):
    """Settings under ``knowledge`` in interlock.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Path = Path(".interlock/models")
    """Folder of model weights, one folder a model."""
    embedder: str = "minilm"
    """Plug-in that makes vectors of passages and questions."""
    embedder_threads: int = Field(default=1, ge=1)
    """CPU threads of the embedder."""
    reader: str = "auto"
    """Judges whether sentences answer a question: a reader's name, ``none``, or ``auto`` for the embedder's own one."""
    chunker: str = "structural"
    """Plug-in that cuts documents into passages."""
    fusion: FusionSettings = FusionSettings()
    collections: dict[str, CollectionSettings] = Field(default_factory=dict)
    """Settings of single collections, by name."""
    candidates: int = Field(default=50, ge=1, le=4096)
    """Rows each leg hands to fusion."""
    max_file_bytes: int = Field(default=64 * MiB, ge=1)
    """Larger files fail with `request_too_large` without being read."""
    parse_timeout_s: float = Field(default=60.0, gt=0)
    """Time for one file in the parser process."""
    parse_memory_bytes: int = Field(default=2048 * MiB, ge=256 * MiB)
    """Address space of the parser process."""
    batch_passages: int = Field(default=48, ge=1)
    """Passages collected before one index transaction; bounds memory and what a crash can lose."""
