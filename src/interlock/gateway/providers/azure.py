"""Azure OpenAI: OpenAI's endpoints under a resource's address, by api-key or by Entra.

Without `api_version` the v1 API is used, which takes the deployment as the model. With it, the older paths are used,
which hold the deployment's name. A model whose deployment has another name is mapped by `deployments`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from interlock.core.errors import Misconfigured
from interlock.core.messages import ChatRequest
from interlock.gateway.http import Signer
from interlock.gateway.ports import Provider, ProviderDeps
from interlock.gateway.presets import Preset, Quirks
from interlock.gateway.profiles import profile
from interlock.gateway.providers._compatible import CompatibleProvider
from interlock.gateway.providers._signers import EntraSigner, KeySigner
from interlock.gateway.secrets import Keys
from interlock.gateway.settings import ProviderSettings
from interlock.gateway.wires import openai as wire

__all__ = ["plugin"]

_SCOPE = "https://cognitiveservices.azure.com/.default"
_QUIRKS = Quirks(audio=True, images=True, responses=True)


class AzureProvider(CompatibleProvider):
    """One resource and its deployments."""

    plain = False

    def _deployment(self, model: str) -> str:
        return self._settings.deployments.get(model, model)

    def _path(self, path: str, model: str) -> str:
        version = self._settings.api_version
        if version is None:
            return path
        query = f"?api-version={quote(version, safe='')}"
        if path == "/responses":
            return f"{path}{query}"
        return f"/deployments/{quote(self._deployment(model), safe='')}{path}{query}"

    # Any: JSON on its way out.
    def _encode(self, request: ChatRequest, model: str) -> dict[str, Any]:
        # The profile is the model's, whatever its deployment is called.
        known = profile(model, self._settings.profiles)
        return {**wire.encode_request(request, model, known, self._quirks), "model": self._deployment(model)}

    async def models(self) -> Sequence[str]:
        """Configured models and deployments, else what ``GET /models`` lists."""
        if self._settings.models or self._settings.deployments:
            return list(dict.fromkeys([*self._settings.models, *self._settings.deployments]))
        version = self._settings.api_version
        return await self._api.list_models(f"/models?api-version={quote(version, safe='')}" if version else "/models")


def _address(name: str, settings: ProviderSettings) -> str:
    if not settings.base_url:
        raise Misconfigured(
            f"provider {name!r} needs its resource's address",
            param=f"gateway.providers.{name}.base_url",
            hint="https://RESOURCE.openai.azure.com",
        )
    base = settings.base_url.rstrip("/")
    if urlsplit(base).path:
        return base
    return f"{base}/openai" if settings.api_version else f"{base}/openai/v1"


def _signer(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Signer:
    keys = Keys(name, settings, deps.environ)
    if keys.configured:
        return KeySigner(keys, "api-key", "")
    env = deps.environ
    param = f"gateway.providers.{name}.entra_secret"
    reference = settings.entra_secret or ("env:AZURE_CLIENT_SECRET" if env.get("AZURE_CLIENT_SECRET") else None)

    async def secret() -> str:
        assert reference is not None
        return await keys.read(reference, param=param)

    entra = EntraSigner(
        env,
        scope=_SCOPE,
        tenant=settings.entra_tenant or env.get("AZURE_TENANT_ID"),
        client=settings.entra_client or env.get("AZURE_CLIENT_ID"),
        secret=secret if reference else None,
        param=param,
    )
    return KeySigner(keys, "api-key", "", otherwise=entra)


def plugin(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
    """Build the provider."""
    settings = settings.model_copy(update={"base_url": _address(name, settings)})
    preset = Preset("Azure OpenAI", None, None, _QUIRKS)
    return AzureProvider(name, settings, deps, preset=preset, kind="azure", signer=_signer(name, settings, deps))
