"""What grounded answering talks about: the spec in a release, evidence, assessments, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from interlock.core.passages import Passage, Span

__all__ = [
    "AnswerSpec",
    "AskedTerm",
    "Assessment",
    "Cell",
    "CheckerSpec",
    "Evidence",
    "Judged",
    "Match",
    "Reason",
    "Selection",
    "Strategy",
    "Unsupported",
    "Verdict",
]

Strategy = Literal["auto", "claims", "passages", "extractive"]
"""How an answer is written. `auto` follows the model's tier: none `extractive`, small `claims`, capable `passages`."""

Unsupported = Literal["repair", "remove", "flag", "decline"]
"""What happens to a claim that its check refused: `repair` says it again or quotes what it should have said; `remove`
leaves it out; `flag` shows it, marked; `decline` declines the whole answer."""

Reason = Literal[
    "ok",
    "empty",
    "number",
    "negation",
    "modality",
    "bound",
    "condition",
    "name",
    "foreign",
    "order",
    "dropped",
    "column",
    "unlike",
    "contradicted",
    "unstated",
    "unjudged",
]
"""Why a claim passed or failed its support check; see :mod:`interlock.knowledge.grounding.support`."""


class CheckerSpec(BaseModel):
    """What judges a claim that is no near-copy of its source. A plain name stands for ``{kind: NAME}``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(
        default="features",
        pattern="^[a-z][a-z0-9_-]{0,40}$",
        description="features (default, no model), rules (near-copies only), nli, llm, or a plug-in's name",
    )
    model: str = Field(
        default="",
        max_length=200,
        description="nli: a folder in the models folder; llm: PROVIDER/MODEL, empty for the app's own route",
    )
    threshold: float | None = Field(
        default=None, ge=0, le=1, description="probability from which a claim is supported; empty: the checker's own"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:  # Any: YAML before validation
        return {"kind": given} if isinstance(given, str) else given


class AnswerSpec(BaseModel):
    """Component `answer` of a release: how an app answers from its knowledge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: Strategy = "auto"
    max_sentences: int = Field(default=3, ge=1, le=12, description="most cited sentences of one answer")
    min_answerability: float = Field(
        default=0.4, ge=0, le=1, description="decline below this probability that the passages hold the answer"
    )
    min_support: float = Field(default=0.6, ge=0, le=1, description="support score a written sentence must reach")
    max_seconds: float = Field(default=6.0, gt=0, le=600, description="write until here, then quote")
    decline_text: str = Field(
        default="I could not find an answer to this in the documents you may read.",
        min_length=1,
        max_length=500,
    )
    checker: CheckerSpec = CheckerSpec()
    unsupported: Unsupported = Field(
        default="repair", description="what happens to a claim that its check refused: repair, remove, flag or decline"
    )
    flag_text: str = Field(
        default="[not confirmed by the documents]",
        min_length=3,
        max_length=80,
        pattern=r"\S",
        description="what stands behind a flagged claim",
    )
    contradictions: Literal["show", "ignore"] = Field(
        default="show", description="whether an answer tells what other documents say against it"
    )
    clarify: bool = Field(default=False, description="ask back when several documents answer equally well")
    clarify_by: tuple[str, ...] = Field(
        default=("title",),
        min_length=1,
        max_length=8,
        description="what readings may differ in, tried in this order: title, or keys of the documents' metadata",
    )

    @classmethod
    def of_release(cls, component: Mapping[str, object]) -> Self:
        """The spec of a release, which keeps the behaviour it was frozen with: before there were checkers and
        contradictions, only near-copies counted and other documents were not compared.
        """
        return cls.model_validate(
            {"checker": {"kind": "rules"}, "contradictions": "ignore", **component}, extra="ignore"
        )


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table row."""

    column: str
    """Its column's name, empty when the table has no header."""
    text: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """One sentence or table row of a passage, with why it was chosen."""

    passage: Passage
    rank: int
    """Position of its passage in the search, from 1."""
    span: Span
    """Absolute characters in the document's text."""
    text: str
    """The document's characters at `span`: what is quoted."""
    heading: str
    """Title and headings above it, joined by `` › ``."""
    cells: tuple[Cell, ...] = ()
    """The row's cells with their column names; empty for a sentence."""
    similarity: float = 0.0
    """Cosine between the question and the sentence in its context, in [-1, 1]."""
    coverage: float = 0.0
    """Weighted share of the question's terms in the sentence, its heading and its columns, in [0, 1]."""
    score: float = 0.0
    """What evidence is ranked by; higher is better."""
    read: float | None = None
    """Logit of the reader that it answers the question, or the part it was chosen for; None when it was not read."""
    features: tuple[float, ...] = ()
    """Inputs of the score, in the order of :data:`interlock.knowledge.grounding.features.FEATURES`."""

    @property
    def is_row(self) -> bool:
        """True for a table row."""
        return bool(self.cells)

    @property
    def readable(self) -> str:
        """The text for people: a row with its column names, a sentence on one line."""
        if not self.cells:
            return " ".join(self.text.split())
        named = [f"{c.column}: {c.text}" if c.column else c.text for c in self.cells if c.text]
        return "; ".join(named)


@dataclass(frozen=True, slots=True)
class AskedTerm:
    """One term of the question, and where it was met."""

    term: str
    weight: float
    """Rarity among the candidates; higher is rarer."""
    is_name: bool
    """A name, a code, or a number: only the same one will do."""
    met: float
    """In the chosen evidence under its headings: 1 the term itself, less for a word of like meaning."""
    near: bool
    """The term itself stands in the passage of a chosen piece of evidence, or in its headings."""
    seen: bool
    """The term itself stands in some found passage."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What was found for a question."""

    evidence: tuple[Evidence, ...]
    """Best first; each covers something the earlier ones do not."""
    candidates: tuple[Evidence, ...]
    """The best scored sentences, chosen or not, best first: what answerability looks at."""
    units: tuple[Evidence, ...] = ()
    """Every sentence and row of the standing passages, in their order: what a written sentence may rest on."""
    asked: tuple[AskedTerm, ...] = ()
    conflicts: tuple[str, ...] = ()
    """Sources set aside because a current version says otherwise."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """Whether the passages hold the answer."""

    probability: float
    """Calibrated, in [0, 1]."""
    features: tuple[tuple[str, float], ...]
    """What it was computed from, by name."""


@dataclass(frozen=True, slots=True)
class Match:
    """The evidence that backs a sentence best."""

    evidence: Evidence
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one support check."""

    supported: bool
    score: float
    """In [0, 1]; 1 for a verbatim quote, 0 for a hard failure."""
    reason: Reason


@dataclass(frozen=True, slots=True)
class Judged:
    """One claim of a written sentence with its verdict."""

    span: Span
    """Its characters in the sentence, which has no markers."""
    text: str
    reads: str
    """As a sentence of its own."""
    evidence: Evidence | None
    """What it rests on, or what comes nearest; None when no passage shares a word with it."""
    verdict: Verdict
    checker: str
    """``rules``, or the kind of the app's checker."""
