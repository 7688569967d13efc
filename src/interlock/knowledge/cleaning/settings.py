"""Settings of cleaning: what a source's policy may say, and what a collection wants."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CleaningSettings", "ContextSettings", "InjectionPolicy", "ValuePolicy"]

ValuePolicy = Literal["allow", "flag", "redact", "quarantine", "refuse"]
"""What happens to a document with personal data or secrets in it: nothing, a note, the values replaced by marks, out of
the index until a person releases it, or not taken in at all."""
InjectionPolicy = Literal["allow", "flag", "quarantine"]
"""What happens to a document that seems to give orders to a model."""


class ContextSettings(BaseModel):
    """A sentence for each passage that says where in its document it stands, written by a model. For search only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1, max_length=200)
    """A route or a provider's model of the gateway"""
    budget_usd: float = Field(gt=0, le=100_000)
    """No call is begun in a run that has spent this much; passages beyond it go without until the next run"""
    max_tokens: int = Field(default=60, ge=10, le=100)
    """Longest context, in the embedder's tokens: passages leave room for it"""


class CleaningSettings(BaseModel):
    """How documents of one collection are compared with one another: ``cleaning:`` in a source file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    boilerplate: bool = True
    """Leave what most documents of a source repeat out of all passages but one"""
    duplicates: Literal["off", "exact", "near"] = "near"
    """Which copies are not indexed: none, those with the same words, or also those that say nothing of their own"""
    versions: bool = True
    """Link documents that seem to be versions of one thing"""
    context: ContextSettings | None = None
    """Have a model write a context for each passage"""
