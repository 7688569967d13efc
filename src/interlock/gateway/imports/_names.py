"""LiteLLM's names of providers, and what stands behind each here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Kind", "kind_of"]


class Kind(NamedTuple):
    """A provider by LiteLLM's name."""

    kind: str
    """Ours: a plug-in or a preset."""
    model: str
    """Without the provider's prefix."""
    key_env: str | None
    """Where LiteLLM finds its key when the file names none."""


_KINDS: Mapping[str, tuple[str, str | None]] = {
    "openai": ("openai", "OPENAI_API_KEY"),
    "text-completion-openai": ("openai", "OPENAI_API_KEY"),
    "custom_openai": ("openai", None),
    "openai_like": ("openai", None),
    "azure": ("azure", "AZURE_API_KEY"),
    "anthropic": ("anthropic", "ANTHROPIC_API_KEY"),
    "gemini": ("google", "GEMINI_API_KEY"),
    "vertex_ai": ("vertex", None),
    "vertex_ai_beta": ("vertex", None),
    "bedrock": ("bedrock", None),
    "cohere": ("cohere", "COHERE_API_KEY"),
    "cohere_chat": ("cohere", "COHERE_API_KEY"),
    "mistral": ("mistral", "MISTRAL_API_KEY"),
    "codestral": ("mistral", "CODESTRAL_API_KEY"),
    "together_ai": ("together", "TOGETHERAI_API_KEY"),
    "fireworks_ai": ("fireworks", "FIREWORKS_AI_API_KEY"),
    "nvidia_nim": ("nvidia", "NVIDIA_NIM_API_KEY"),
    "hosted_vllm": ("vllm", None),
    "vllm": ("vllm", None),
    "ollama_chat": ("ollama", None),
    "ollama": ("ollama", None),
    "lm_studio": ("lmstudio", None),
    "llamafile": ("llamacpp", None),
    "jina_ai": ("jina", "JINA_AI_API_KEY"),
    "ai21_chat": ("ai21", "AI21_API_KEY"),
    "litellm_proxy": ("litellm", "LITELLM_PROXY_API_KEY"),
    "github": ("github", "GITHUB_API_KEY"),
    "xinference": ("xinference", None),
}
_SAME = frozenset(
    {
        "openrouter",
        "groq",
        "deepseek",
        "perplexity",
        "xai",
        "cerebras",
        "sambanova",
        "huggingface",
        "deepinfra",
        "nebius",
        "hyperbolic",
        "novita",
        "baseten",
        "moonshot",
        "zai",
        "minimax",
        "dashscope",
        "databricks",
        "cloudflare",
        "voyage",
        "ai21",
        "ovhcloud",
        "scaleway",
    }
)
"""Presets of ours that are called the same there."""
_BARE = (
    (("gpt-", "o1", "o3", "o4", "chatgpt-", "text-embedding-", "dall-e", "whisper-", "tts-"), "openai"),
    (("claude-",), "anthropic"),
    (("gemini-",), "vertex_ai"),
    (("command-", "embed-", "rerank-"), "cohere"),
)
_BEDROCK_PATHS = ("converse/", "converse_like/", "invoke/")


def kind_of(model: str, provider: str | None = None) -> Kind | None:
    """What `model`, as LiteLLM writes it, stands for; None when nothing here speaks to that provider.

    Args:
        provider: `custom_llm_provider`, which wins over the prefix.
    """
    prefix, slash, rest = model.partition("/")
    known = prefix in _KINDS or prefix in _SAME
    if provider is not None:
        name, bare = provider, rest if slash and prefix == provider else model
    elif slash and known:
        name, bare = prefix, rest
    elif slash:
        return None
    else:
        found = next((name for starts, name in _BARE if model.startswith(starts)), None)
        if found is None:
            return None
        name, bare = found, model
    if name in _SAME:
        return Kind(name, bare, None)
    if name not in _KINDS:
        return None
    kind, key_env = _KINDS[name]
    if name == "bedrock":
        bare = next((bare.removeprefix(path) for path in _BEDROCK_PATHS if bare.startswith(path)), bare)
    return Kind(kind, bare, key_env)
