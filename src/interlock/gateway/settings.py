"""How providers and routes are configured in `interlock.yaml`."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from interlock.gateway.types import Approval, ModelFacts, RouteSpec

__all__ = ["SECRET_STORES", "BreakerSettings", "GatewaySettings", "ProviderSettings", "ScriptRule"]


SECRET_STORES = ("env", "file", "vault", "aws-sm", "azure-kv", "gcp-sm")
"""Where a secret may be: what stands before the colon of a reference."""
_NOT_SENT = re.compile(r"[\x00-\x20\x7f]")
_NOT_IN_A_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
"""Headers that say where a message begins and ends: they are the connection's own."""


class ScriptRule(BaseModel):
    """One rule of a scripted provider: the first whose `match` is found in the last user message applies."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    match: str = Field(default="", description="regular expression; empty matches everything")
    match_system: str = Field(default="", description="regular expression that the system prompt must match besides")
    reply: str = Field(default="ok", description="the answer; {question} stands for the caller's last words")
    chunk_chars: int = Field(default=8, ge=1, description="characters per streamed chunk")
    first_delay_s: float = Field(default=0.0, ge=0, description="seconds before the first chunk")
    chunk_delay_s: float = Field(default=0.0, ge=0, description="seconds before each further chunk")
    fail_status: int | None = Field(default=None, description="HTTP status to fail with")
    fail_after_chunks: int = Field(default=0, ge=0, description="fail after this many chunks were sent")
    fail_times: int | None = Field(default=None, ge=1, description="fail only the first N calls, then answer")
    retry_after_s: float | None = Field(default=None, description="Retry-After of the failure, in seconds")


class ProviderSettings(BaseModel):
    """One configured provider, by name."""

    # A key pasted where a reference belongs must not come back in the error that refuses it.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    kind: str = Field(
        description="plug-in (openai, anthropic, google, vertex, azure, bedrock, cohere, mistral, local, scripted, "
        "extractive) or preset (openrouter, groq, vllm, ollama …)"
    )
    base_url: str | None = Field(
        default=None, description="address up to the version, as https://host/v1; empty takes the kind's own"
    )
    api: Literal["chat", "responses"] = Field(default="chat", description="which of OpenAI's two APIs answers a chat")
    key: str | None = Field(
        default=None,
        description="where the key is: env:NAME, file:/path, vault:path#field, aws-sm:name#field, azure-kv:vault/name, "
        "gcp-sm:projects/P/secrets/S",
    )
    tenant_keys: dict[str, str] = Field(
        default_factory=dict, description="tenant -> reference of the key its calls are made with"
    )
    key_ttl_s: float = Field(
        default=300.0, gt=0, le=86_400, description="how long a key read from a secret store is used"
    )
    api_key_env: str | None = Field(default=None, description="environment variable that holds the key")
    api_key_file: str | None = Field(default=None, description="file that holds the key")
    region: str | None = Field(default=None, description="Bedrock's region, Vertex's location")
    project: str | None = Field(default=None, description="Vertex's project")
    credentials: str | None = Field(
        default=None, description="Vertex: reference of the service account's JSON; empty takes the default ones"
    )
    profile: str | None = Field(default=None, description="Bedrock: profile of the shared credentials file")
    api_version: str | None = Field(
        default=None, description="Azure: version of the deployments API; empty takes the v1 API"
    )
    deployments: dict[str, str] = Field(default_factory=dict, description="Azure: model -> name of its deployment")
    entra_tenant: str | None = Field(default=None, description="Azure: sign in by Entra instead of a key")
    entra_client: str | None = Field(default=None, description="Azure: id of the Entra client")
    entra_secret: str | None = Field(default=None, description="reference of the Entra client's secret")
    models: list[str] = Field(default_factory=list, description="models to list; empty asks the provider")
    profiles: dict[str, ModelFacts] = Field(
        default_factory=dict,
        description="model, or pattern with *, -> its facts, over those that Interlock knows; the longest one counts",
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        description="sent with every call; a value may be a reference as `key` is: X-Api-Key: env:NAME",
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, description="longest time to connect, TLS included, in seconds")
    idle_timeout_s: float = Field(default=60.0, gt=0, description="longest silence inside an answer, in seconds")
    threads: int = Field(default=1, ge=1, le=64, description="CPU threads of a local model")
    context_tokens: int = Field(default=4096, ge=512, description="context window of a local model")
    max_concurrency: int = Field(default=0, ge=0, description="calls at once; further ones queue; 0 sets no limit")
    queue: int = Field(default=64, ge=0, description="calls that may wait for a turn; further ones are shed")
    queue_timeout_s: float = Field(
        default=10.0, gt=0, description="longest wait for a turn, in seconds; the route's next target is asked after it"
    )
    script: list[ScriptRule] = Field(
        default_factory=list, description="what a `scripted` provider answers; the first rule that matches counts"
    )
    batch: Literal["auto", "never"] = Field(
        default="auto", description="whether lines of a batch may go to the provider's own batch API, at its price"
    )

    @field_validator("key", "credentials", "entra_secret")
    @classmethod
    def _is_reference(cls, value: str | None) -> str | None:
        if value is not None and value.partition(":")[0] not in SECRET_STORES:
            raise ValueError(f"a secret is named by reference: {', '.join(f'{s}:…' for s in SECRET_STORES)}")
        return value

    @field_validator("tenant_keys")
    @classmethod
    def _are_references(cls, value: dict[str, str]) -> dict[str, str]:
        for reference in value.values():
            cls._is_reference(reference)
        return value

    @field_validator("base_url")
    @classmethod
    def _is_web_address(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            # Reading `port` checks its range.
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
                raise ValueError("an address looks like https://host/v1")
            if _NOT_SENT.search(value):
                raise ValueError("an address has no spaces and no line ends")
        return value

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, value: dict[str, str]) -> dict[str, str]:
        for name, content in value.items():
            if not _HEADER.fullmatch(name) or name.lower() in _FRAMING:
                raise ValueError(f"{name!r} is no header that can be set here")
            if _NOT_IN_A_HEADER.search(content):
                raise ValueError(f"the value of {name!r} has characters that no header holds")
        return value


class BreakerSettings(BaseModel):
    """When a failing target is given a rest."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    failures: int = Field(default=5, ge=1, description="failures in a row that open it")
    failure_rate: float = Field(default=0.5, gt=0, le=1, description="or this share of at least twice as many calls")
    window_s: float = Field(default=30.0, gt=0, description="how far back `failure_rate` looks, in seconds")
    pause_s: float = Field(default=5.0, gt=0, description="first rest, in seconds; doubles while probes fail")
    max_pause_s: float = Field(default=60.0, gt=0, description="longest rest, in seconds")


class GatewaySettings(BaseModel):
    """Section `gateway`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    providers: dict[str, ProviderSettings] = Field(
        default_factory=dict,
        validate_default=True,
        description="by the name that targets call them by; `local` and `extractive` are always there",
    )

    @field_validator("providers")
    @classmethod
    def _with_built_in(cls, providers: dict[str, ProviderSettings]) -> dict[str, ProviderSettings]:
        """What works without a key is always there; naming it configures it."""
        if "cache" in providers:
            raise ValueError("a provider cannot be named 'cache': the ledger calls kept answers that")
        built_in = {name: ProviderSettings(kind=name) for name in ("local", "extractive") if name not in providers}
        return {**providers, **built_in}

    routes: dict[str, RouteSpec] = Field(
        default_factory=dict, description="asked for as route/NAME; an app's `route` has the same fields"
    )
    store_responses: bool = Field(
        default=True, description="keep answers of /v1/responses when the caller does not say store: false"
    )
    response_max_age_days: float = Field(default=30.0, gt=0, le=3650, description="when a kept response is removed")
    file_max_age_days: float = Field(
        default=30.0, gt=0, le=3650, description="when an uploaded file, a batch and its results are removed"
    )
    batch_concurrency: int = Field(
        default=4,
        ge=1,
        le=256,
        description="lines of all batches that run at a time in each worker, and responses in the background",
    )
    batch_max_lines: int = Field(default=50_000, ge=1, le=1_000_000, description="lines that one batch may have")
    batch_poll_s: float = Field(
        default=30.0,
        ge=0.05,
        le=3600,
        description="first wait before a provider's batch is asked after; each is half as long again, to 20 times this",
    )
    breaker: BreakerSettings = BreakerSettings()
    retry_ratio: float = Field(
        default=0.2, ge=0, le=10, description="retries may be this share of a provider's calls, besides a few a second"
    )
    approvals: dict[str, Approval] = Field(
        default_factory=dict,
        description="the provider register: 'provider/model' or a pattern, to what it is approved for",
    )
    residency: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(
        default_factory=dict, description="tenant to the regions in which its requests may be processed"
    )
    must_be_approved: bool = Field(default=False, description="refuse targets that the register does not name")
    detect: bool = Field(
        default=False, description="look for a provider key in the environment and for Ollama or vLLM on this machine"
    )
