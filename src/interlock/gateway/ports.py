"""What plugs into the gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from interlock.core.context import Context
from interlock.core.messages import ChatEvent, ChatRequest
from interlock.core.ports import Embedder, Quoter
from interlock.gateway.settings import ProviderSettings

__all__ = ["ModelFiles", "Provider", "ProviderDeps", "ProviderFactory", "Warmable"]


class ModelFiles(Protocol):
    """Local weights."""

    def file(self, model: str, role: str) -> Path:
        """Path of one file of an installed model. Raises: ModelMissing."""

    def names(self, kind: str) -> Sequence[str]:
        """Installed models of a kind (`chat`, `embedding`)."""


@dataclass(frozen=True, slots=True)
class ProviderDeps:
    """What a provider may need besides its settings."""

    files: ModelFiles
    quoter: Quoter | None
    embedders: Mapping[str, Embedder]
    environ: Mapping[str, str]


class Provider(Protocol):
    """One configured provider."""

    def stream(self, ctx: Context, request: ChatRequest, model: str) -> AsyncGenerator[ChatEvent, None]:
        """One try, no retries. `request.model` is what the caller asked for; `model` is what this provider calls it.

        Yields deltas, then exactly one Finish. Closing it stops the upstream work.
        Raises: ProviderError and its kin before or between events.
        """

    async def embed(self, ctx: Context, texts: Sequence[str], model: str) -> tuple[list[list[float]], int]:
        """Vectors in input order and the tokens read. Raises: InvalidInput when it has no embeddings."""

    async def models(self) -> Sequence[str]:
        """Models that can be asked for now."""

    async def close(self) -> None:
        """Let go of connections and memory."""


@runtime_checkable
class Warmable(Protocol):
    """A provider that can load a model ahead of the first request."""

    async def warm(self, model: str) -> None:
        """Load `model` now. Raises: ModelMissing."""


ProviderFactory = Callable[[str, ProviderSettings, ProviderDeps], Provider]
"""The symbol `plugin` of a provider file: (configured name, settings, dependencies) -> provider."""
