"""Settings of knowledge, with defaults that work."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from interlock.knowledge.retrieval.settings import RetrievalSteps

__all__ = [
    "BOTH_LEGS",
    "AlertSettings",
    "ChunkingSettings",
    "CollectionSettings",
    "EmbedderFacts",
    "FusionSettings",
    "KnowledgeSettings",
    "LegSettings",
]

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


class LegSettings(BaseModel):
    """Which legs a search by both takes part of. Asking for one leg alone by `mode` is always possible."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: bool = True
    """An ingest that changed a tenth of the documents judges both legs by 100 sentences of the collection at most; one
    that is near random in a language is left out of searches in it."""
    dense: Literal["auto", "on", "off"] = "auto"
    """The leg of meaning: as the check found it, always, or never."""
    lexical: Literal["auto", "on", "off"] = "auto"
    """The leg of words: the same."""

    @model_validator(mode="after")
    def _one_stays(self) -> LegSettings:
        if self.dense == self.lexical == "off":
            raise ValueError("both legs are off: a search needs one of them")
        return self


BOTH_LEGS = LegSettings(check=False, dense="on", lexical="on")
"""Whatever is known of them."""


class ChunkingSettings(BaseModel):
    """How the chunker `structural` cuts documents. A change cuts and embeds the collection anew at its next ingest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_words: int = Field(default=150, ge=20, le=2000)
    """A passage is no longer; what the embedder reads bounds it as well. From about three quarters of it on, a new
    paragraph starts a new passage."""
    overlap_sentences: int = Field(default=0, ge=0, le=5)
    """So many sentences of the passage before are searched with each passage of a section; they are not quoted."""
    header: bool = True
    """Title and headings are searched with each passage."""
    heading_weight: int = Field(default=1, ge=1, le=5)
    """So many times words of title and headings count in the lexical leg; where `header` is off, once less."""


class EmbedderFacts(BaseModel):
    """What is to be known of an embedding model that somebody else runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimensions: int = Field(ge=1, le=16_000)
    """Length of its vectors. Others are refused."""
    max_tokens: int = Field(default=512, ge=16, le=1_000_000)
    """Longest text that it reads whole, by a count of ours that leans to more: see `docs/how-to/embedders.md`."""
    query_prefix: str = Field(default="", max_length=500)
    """Put before questions, as ``query: ``. Part of the space's identity."""
    passage_prefix: str = Field(default="", max_length=500)
    """Put before passages. Part of the space's identity."""
    batch: int = Field(default=64, ge=1, le=2048)
    """Texts of one request."""


class CollectionSettings(BaseModel):
    """What one collection has otherwise than the others: `interlock knowledge tune` proposes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedder: str | None = None
    """Its embedder; as for the others when it says nothing, and then the settings beside are not looked at either. The
    space that answers changes when somebody switches: `interlock knowledge embedder`."""
    embedder_model: str = ""
    """As of all collections."""
    embedder_threads: int | None = Field(default=None, ge=1)
    """As of all collections."""
    embedder_facts: EmbedderFacts | None = None
    """As of all collections."""

    fusion: FusionSettings | None = None
    """How its legs become one ranking; as for the others when it says nothing."""
    legs: LegSettings | None = None
    """Which legs its searches take part of; as for the others when it says nothing, and both where it has a fusion of
    its own, which was chosen with both."""
    steps: RetrievalSteps | None = None
    """Which steps its searches take; as for the others when it says nothing."""
    candidates: int | None = Field(default=None, ge=1, le=4096)
    """Rows each leg hands to fusion; as for the others when it says nothing."""
    chunking: ChunkingSettings | None = None
    """How its documents are cut; as for the others when it says nothing."""


class AlertSettings(BaseModel):
    """Where changes of sources are told: stale, failing, fresh again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(default=None, pattern=r"^https?://")
    """Gets a POST of JSON for every change."""
    secret_env: str = ""
    """Environment variable with the secret that signs it: `X-Interlock-Signature-256: sha256=…`, as webhooks to us."""


class KnowledgeSettings(BaseModel):
    """Settings under ``knowledge`` in interlock.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Path = Path(".interlock/models")
    """Folder of model weights, one folder a model."""
    embedder: str = "minilm"
    """Plug-in that makes vectors of passages and questions."""
    embedder_model: str = ""
    """Of `onnx` and `sentence_transformers` a folder below `models`; of `provider` a model or route of the gateway."""
    embedder_threads: int = Field(default=1, ge=1)
    """CPU threads of the embedder."""
    embedder_facts: EmbedderFacts | None = None
    """Of the embedder `provider`: what the model gives and takes."""
    reader: str = "auto"
    """Judges whether sentences answer a question: a reader's name, ``none``, or ``auto`` for the embedder's own one."""
    chunker: str = "structural"
    """Plug-in that cuts documents into passages."""
    chunking: ChunkingSettings = ChunkingSettings()
    """How passages are cut, for chunkers that take settings."""
    fusion: FusionSettings = FusionSettings()
    legs: LegSettings = LegSettings()
    steps: RetrievalSteps = RetrievalSteps()
    """Steps beside the two legs, all off: spelling, expansion, reranking, diversity …"""
    collections: dict[str, CollectionSettings] = Field(default_factory=dict)
    """Settings of single collections, by name."""
    alerts: AlertSettings = AlertSettings()
    candidates: int = Field(default=50, ge=1, le=4096)
    """Rows each leg hands to fusion."""
    max_file_bytes: int = Field(default=64 * MiB, ge=1)
    """Larger files fail with `request_too_large` without being read."""
    parse_timeout_s: float = Field(default=60.0, gt=0)
    """Time for one file in the parser process."""
    parse_memory_bytes: int = Field(default=2048 * MiB, ge=256 * MiB)
    """Address space of the parser process."""
    keep_deleted_days: float = Field(default=7.0, ge=0.0, le=3650.0)
    """How long what a source no longer has can be brought back; nobody finds it meanwhile. 0 removes it at once."""
    keep_versions_days: float | None = Field(default=365.0, ge=1.0, le=36_500.0)
    """How long one can go back: older snapshots go, and versions of documents that only they hold. null keeps all."""
    batch_passages: int = Field(default=48, ge=1)
    """Passages collected before one index transaction; a few such batches are on their way at once, which bounds memory
    and what a crash can lose."""

    @model_validator(mode="after")
    def _kept_long_enough(self) -> KnowledgeSettings:
        if self.keep_versions_days is not None and self.keep_versions_days < self.keep_deleted_days:
            raise ValueError("keep_versions_days is less than keep_deleted_days: what was deleted could not come back")
        return self
