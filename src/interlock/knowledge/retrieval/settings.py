"""Which steps a search takes beside its two legs. All of them are off; each is chosen for an app or a collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interlock.core.errors import InvalidInput
from interlock.core.wording import first, told
from interlock.knowledge.graph.settings import GraphSettings

__all__ = [
    "AuthoritySettings",
    "DiversitySettings",
    "ExpansionSettings",
    "FocusSettings",
    "FreshnessSettings",
    "ModelSettings",
    "PackingSettings",
    "RerankSettings",
    "RetrievalSteps",
    "SelfQuerySettings",
    "parse_steps",
]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SelfQuerySettings(_Settings):
    """Values of the documents' metadata, recognised in the question."""

    mode: Literal["soft", "hard"] = "soft"
    """`soft`: documents without them count less; `hard`: only documents with them, all of them when none has."""
    fields: list[str] = Field(default_factory=list, max_length=50)
    """Metadata fields to look at; empty for all of them."""
    weight: float = Field(default=0.3, ge=0.0, le=1.0)
    """Of `soft`: the share of its score that a document loses for every named field it does not meet."""


class ExpansionSettings(_Settings):
    """Further texts that are searched, written by a model."""

    queries: int = Field(default=0, ge=0, le=8)
    """The question in so many other words."""
    hyde: bool = False
    """Search by meaning also with an imagined answer (HyDE)."""
    decompose: bool = False
    """Search parts of a question that has several, then look at what was found and ask on (`model.max_rounds`)."""


class ModelSettings(_Settings):
    """The model behind steps that need one, and what one search may spend on it."""

    name: str = Field(default="", max_length=200)
    """A route or ``provider/model``; empty for the app's own route. Without either the steps are left out."""
    max_calls: int = Field(default=4, ge=1, le=50)
    """Of all steps together."""
    max_seconds: float = Field(default=8.0, gt=0.0, le=120.0)
    """For all calls together; what is not there by then is left out."""
    max_tokens: int = Field(default=6000, ge=100, le=1_000_000)
    """Read and written, for all calls together."""
    max_rounds: int = Field(default=2, ge=0, le=10)
    """How often `decompose` may ask on after its first parts."""


class FreshnessSettings(_Settings):
    """Newer documents count more."""

    field: str = Field(default="date", min_length=1, max_length=200)
    """Metadata with an ISO 8601 date, or ``document.ingested_at``."""
    half_life_days: float = Field(default=365.0, gt=0.0)
    """After so long a document is worth half of a new one."""
    weight: float = Field(default=0.2, ge=0.0, le=1.0)
    """The most that age takes away, as a share of the score."""
    unknown: float = Field(default=0.5, ge=0.0, le=1.0)
    """What a document without a date is worth."""


class AuthoritySettings(_Settings):
    """Some documents count more, by what is known of them."""

    field: str = Field(default="authority", min_length=1, max_length=200)
    """Metadata, or ``document.source`` with patterns (``policies/**``) in `values`."""
    values: dict[str, float] = Field(default_factory=dict, max_length=200)
    """What a value is worth, 0 to 1; the first pattern that fits. Empty: the field holds the number itself."""
    weight: float = Field(default=0.2, ge=0.0, le=1.0)
    """The most that a lack of authority takes away, as a share of the score."""
    unknown: float = Field(default=0.5, ge=0.0, le=1.0)
    """What a document is worth that says nothing of it."""


class RerankSettings(_Settings):
    """The best candidates, read once more together with the question."""

    reranker: str = Field(min_length=1, max_length=64)
    """A plug-in: ``onnx``, ``provider``, ``listwise``."""
    model: str = Field(default="", max_length=200)
    """Of ``onnx`` a folder below `knowledge.models`; of ``provider`` a model that reranks."""
    candidates: int = Field(default=20, ge=2, le=200)
    """How many are read."""
    weight: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the reranker's score; the rest is the score before."""
    timeout_s: float = Field(default=10.0, gt=0.0, le=120.0)
    """After it the order stays as it was."""


class DiversitySettings(_Settings):
    """Less of the same."""

    mmr: float | None = Field(default=None, ge=0.0, le=1.0)
    """Maximal marginal relevance: 1 is relevance alone, lower values push what resembles better passages back."""
    per_document: int | None = Field(default=None, ge=1, le=100)
    """So many passages of a document come first; the others follow behind everything else."""


class FocusSettings(_Settings):
    """Passages behind the first few are cut to the sentences that speak of the question, so that more of them fit."""

    whole: int = Field(default=4, ge=0, le=200)
    """So many stay as they were found."""
    characters: int = Field(default=450, ge=100, le=20_000)
    """The others are no longer; a single sentence may be."""


class PackingSettings(_Settings):
    """How passages become a prompt's context."""

    order: Literal["best_first", "best_at_ends", "document_order"] = "best_first"
    """`best_at_ends`: the best first, the next best last, the rest between; `document_order`: as they are written."""
    focus: FocusSettings | None = None
    """More passages, the later ones shorter."""
    sections: bool = False
    """Widen each passage to the section it stands in, as far as the budget goes."""
    section_tokens: int = Field(default=600, ge=50, le=20_000)
    """No widened passage is longer."""


class RetrievalSteps(_Settings):
    """The steps of a search, in the order in which they are taken."""

    spelling: bool = False
    """Words that no readable document holds become the one that some do, when only one is near."""
    acronyms: bool = False
    """Short forms and what they stand for, as readable documents explain them."""
    self_query: SelfQuerySettings | None = None
    """Metadata that the question names filters, or weighs."""
    conversation: Literal["off", "rules", "model"] = "rules"
    """How a follow-up becomes a question that stands alone; of no effect without earlier turns."""
    expansion: ExpansionSettings | None = None
    """Further texts to search, by a model."""
    graph: GraphSettings | None = None
    """What is said elsewhere of the things that the question names."""
    model: ModelSettings = ModelSettings()
    freshness: FreshnessSettings | None = None
    """Newer documents count more."""
    authority: AuthoritySettings | None = None
    """Some documents count more."""
    rerank: RerankSettings | None = None
    """The best candidates are read once more with the question."""
    diversity: DiversitySettings | None = None
    """Less of the same."""
    packing: PackingSettings = PackingSettings()

    @property
    def reads_with_models(self) -> bool:
        """Whether a model reads or writes anything: that costs time, and maybe money."""
        writes = self.expansion is not None or self.conversation == "model"
        writes = writes or (self.graph is not None and self.graph.by_model)
        return writes or self.rerank is not None


def parse_steps(chosen: Sequence[str], base: RetrievalSteps | None = None) -> RetrievalSteps:
    """Steps as the command line takes them: ``spelling``, ``diversity.mmr=0.7``, ``self_query``, ``rerank=null``.

    Args:
        chosen: a step alone is switched on with its defaults; a value is read as YAML.
        base: what they change; all steps off when None.

    Raises: InvalidInput: names the step.
    """
    # Any: settings before validation.
    values: dict[str, Any] = (base or RetrievalSteps()).model_dump(mode="json")
    for text in chosen:
        path, given, raw = text.partition("=")
        try:
            value: Any = yaml.safe_load(raw) if given else None
        except yaml.YAMLError as error:
            raise InvalidInput(f"{text!r} has no value that can be read", param="steps") from error
        _set(values, path.strip().split("."), value, given=bool(given), text=text)
    try:
        return RetrievalSteps.model_validate(values)
    except ValidationError as error:
        fault = first(error)
        field = ".".join(str(step) for step in fault["loc"])
        known = ", ".join(name for name in RetrievalSteps.model_fields if name != "model")
        raise InvalidInput(
            f"the step {field!r} is wrong: {told(RetrievalSteps, fault)}",
            param=f"steps.{field}",
            hint=f"steps: {known}",
        ) from error


# Any: settings before validation.
def _set(values: dict[str, Any], path: Sequence[str], value: Any, *, given: bool, text: str) -> None:
    *groups, last = path
    for group in groups:
        if values.get(group) is None:
            values[group] = {}
        if not isinstance(values[group], dict):
            raise InvalidInput(f"{text!r} is no step: {group!r} has no settings of its own", param="steps")
        values = values[group]
    if given:
        # YAML reads a bare "off" as false, and a step that is false is one that is not there.
        values[last] = (
            ("off" if last == "conversation" else None) if value is False and last not in _SWITCHES else value
        )
    elif not groups and last not in _SWITCHES:
        values[last] = values.get(last) or {}
    else:
        values[last] = True


_SWITCHES = frozenset({"spelling", "acronyms", "hyde", "decompose", "sections", "by_model"})
