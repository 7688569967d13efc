"""OpenAI-compatible servers by name, as data: `kind: groq` is the OpenAI provider with `presets.json`'s facts."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from interlock.core.errors import InvalidInput
from interlock.core.plugins import Registry
from interlock.gateway.ports import Provider, ProviderDeps, ProviderFactory
from interlock.gateway.settings import ProviderSettings

__all__ = ["Preset", "ProviderKinds", "Quirks", "preset_names", "presets"]


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a server's chat completions differ from OpenAI's."""

    stream_options: bool = True
    """False when it refuses the field; most of those send the usage unasked."""
    tools: bool = True
    json_schema: bool = True
    """False when it knows only ``json_object``; a schema is then refused rather than forgotten."""
    output_token_field: str | None = None
    """Overrides the model's own: servers that know only one of the two names."""
    reasoning: Literal["effort", "object", "thinking", "template", "none"] = "effort"
    """How it is told how much to think: `reasoning_effort`; OpenRouter's `reasoning` object; a `thinking` object with a
    type; a chat template's `enable_thinking`; not at all."""
    reasoning_field: str | None = None
    """Field of an assistant turn that takes its thoughts back; None when there is none."""
    cache_marks: bool = False
    """True when parts may carry Anthropic's `cache_control`."""
    media_urls: bool = False
    """True when audio, video and files may be given by URL."""
    user: bool = True
    seed: bool = True
    top_k: bool = False
    """False for servers that refuse the field, OpenAI first; it is then left out."""
    parallel_tool_calls: bool = True
    embeddings: bool = True
    token_inputs: bool = True
    """False when its embeddings take only texts, no token numbers."""
    rerank: str | None = None
    """Path of its reranking endpoint."""
    rerank_form: Literal["top_n", "top_k", "tei"] = "top_n"
    """How it is asked: `top_n` like Jina and Cohere, `top_k` like Voyage, `tei` like Text Embeddings Inference."""
    moderations: bool = False
    audio: bool = False
    images: bool = False
    responses: bool = False
    """True when it has OpenAI's Responses API too."""
    batches: bool = False
    """True when it has OpenAI's batch API, whose lines cost less."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A server that is known by name."""

    title: str
    base_url: str | None
    """None when every account has its own: it must then be configured."""
    key_env: str | None
    """None for servers on one's own machine."""
    quirks: Quirks


@cache
def presets() -> dict[str, Preset]:
    """All of them, by name."""
    raw = json.loads(resources.files("interlock.gateway").joinpath("presets.json").read_text("utf-8"))
    return {
        name: Preset(row["title"], row.get("base_url"), row.get("key_env"), Quirks(**row.get("quirks", {})))
        for name, row in raw.items()
        if not name.startswith("_")
    }


def preset_names() -> list[str]:
    """Their names, sorted."""
    return sorted(presets())


class ProviderKinds(Registry[ProviderFactory]):
    """Everything that may stand behind `kind:`: plug-ins, then presets."""

    def __init__(self) -> None:
        super().__init__("provider", "interlock.gateway.providers")

    def _load(self, name: str) -> ProviderFactory:
        if name in super().names():
            return super()._load(name)
        if name in presets():
            return _factory(name, presets()[name])
        known = sorted({*super().names(), *presets()})
        near = difflib.get_close_matches(name, known, n=1)
        said = f"did you mean {near[0]!r}? " if near else ""
        raise InvalidInput(f"no provider named {name!r}", hint=f"{said}kinds: {', '.join(known)}")


def _factory(kind: str, preset: Preset) -> ProviderFactory:
    def build(name: str, settings: ProviderSettings, deps: ProviderDeps) -> Provider:
        from interlock.gateway.providers._compatible import CompatibleProvider

        return CompatibleProvider(name, settings, deps, preset=preset, kind=kind)

    return build
