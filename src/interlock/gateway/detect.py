"""Finds models a newcomer already has: a provider key in the environment, or a local server that speaks OpenAI."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from interlock.core.errors import InterlockError
from interlock.gateway.http import HttpApi
from interlock.gateway.settings import ProviderSettings

__all__ = ["Detected", "detect"]

_PROBE_S = 0.4
_LOCAL_SERVERS = {"ollama": "http://127.0.0.1:11434/v1", "vllm": "http://127.0.0.1:8000/v1"}
_NOT_FOR_CHAT = ("embed", "rerank", "whisper", "tts", "bge-", "clip")


class Detected(NamedTuple):
    """A provider that was found, and one model of it to use."""

    name: str
    settings: ProviderSettings
    model: str
    how: str
    """For people: where it was found; never the key."""

    @property
    def target(self) -> str:
        """``provider/model``."""
        return f"{self.name}/{self.model}"


async def detect(environ: Mapping[str, str]) -> list[Detected]:
    """What is there, keys first, in a fixed order. Opens loopback connections only, for at most half a second.

    ``OPENAI_BASE_URL`` and ``INTERLOCK_DEMO_MODEL`` are honoured where set.
    """
    found: list[Detected] = []
    wanted = environ.get("INTERLOCK_DEMO_MODEL")
    if environ.get("OPENAI_API_KEY"):
        settings = ProviderSettings(
            kind="openai", api_key_env="OPENAI_API_KEY", base_url=environ.get("OPENAI_BASE_URL") or None
        )
        found.append(Detected("openai", settings, wanted or "gpt-4.1-mini", "OPENAI_API_KEY is set"))
    if environ.get("ANTHROPIC_API_KEY"):
        settings = ProviderSettings(
            kind="anthropic", api_key_env="ANTHROPIC_API_KEY", base_url=environ.get("ANTHROPIC_BASE_URL") or None
        )
        found.append(Detected("anthropic", settings, wanted or "claude-haiku-4-5", "ANTHROPIC_API_KEY is set"))
    probes = await asyncio.gather(*(_probe(name, address) for name, address in _LOCAL_SERVERS.items()))
    return found + [probe for probe in probes if probe is not None]


async def _probe(name: str, address: str) -> Detected | None:
    settings = ProviderSettings(kind="openai", base_url=address, connect_timeout_s=_PROBE_S, idle_timeout_s=_PROBE_S)
    api = HttpApi(name, address, settings)
    try:
        async with asyncio.timeout(_PROBE_S):
            answer = await api.get_json("/models", {})
        models = [str(row["id"]) for row in answer["data"]]
    except (InterlockError, TimeoutError, KeyError, TypeError):
        # Nothing there, or something else listens on that port: not a model server.
        return None
    finally:
        await api.close()
    chat = [model for model in models if not any(part in model.lower() for part in _NOT_FOR_CHAT)]
    if not chat:
        return None
    working = ProviderSettings(kind="openai", base_url=address)
    return Detected(name, working, chat[0], f"a server answers at {address}")
