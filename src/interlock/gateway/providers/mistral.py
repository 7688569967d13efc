"""Mistral's own API."""

from __future__ import annotations

from typing import Any

from interlock.core.messages import ChatRequest
from interlock.gateway.lanes.mistral import MistralLane
from interlock.gateway.lanes.openai import WireCodec
from interlock.gateway.lanes.ports import BatchLane, LaneTerms
from interlock.gateway.ports import Provider, ProviderDeps
from interlock.gateway.presets import Preset
from interlock.gateway.profiles import profile
from interlock.gateway.providers._compatible import CompatibleProvider
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import mistral as wire

__all__ = ["plugin"]


class MistralProvider(CompatibleProvider):
    """OpenAI's endpoints, with Mistral's request."""

    plain = False

    def lane(self) -> BatchLane | None:
        """See :class:`interlock.gateway.lanes.ports.HasLane`."""
        codec = WireCodec(self._encode, self._decode)
        return MistralLane(self._name, self._api, codec, endpoint="/v1/chat/completions", terms=LaneTerms())

    # Any: JSON on its way out.
    def _encode(self, request: ChatRequest, model: str) -> dict[str, Any]:
        return wire.encode_request(request, model, profile(model, self._settings.profiles))


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    preset = Preset("Mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY", wire.QUIRKS)
    return MistralProvider(name, settings, deps, preset=preset, kind="mistral")
