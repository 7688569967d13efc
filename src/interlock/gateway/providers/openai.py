"""OpenAI, and any server that speaks its chat completions and has no preset of its own."""

from __future__ import annotations

from interlock.gateway.ports import Provider, ProviderDeps
from interlock.gateway.presets import Preset, Quirks
from interlock.gateway.providers._compatible import CompatibleProvider
from interlock.gateway.settings import ProviderSettings

__all__ = ["plugin"]

_OPENAI = Preset(
    "OpenAI",
    "https://api.openai.com/v1",
    None,
    Quirks(moderations=True, audio=True, images=True, responses=True, batches=True, rerank="/rerank"),
)
"""No key is demanded, because the address may be that of a local server."""


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    return CompatibleProvider(name, settings, deps, preset=_OPENAI, kind="openai")
