"""What grounded answering talks about: the spec in a release, evidence, assessments, verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from interlock.core.passages import Passage, Span

__all__ = [
    "AnswerSpec",
    "AskedTerm",
    "Assessment",
    "Cell",
    "Evidence",
    "Match",
    "Reason",
    "Selection",
    "Strategy",
    "Verdict",
]

Strategy = Literal["auto", "claims", "passages", "extractive"]
"""How an answer is written. `auto` follows the model's tier: none `extractive`, small `claims`, capable `passages`."""

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
]
"""Why a claim passed or failed its support check; see :mod:`interlock.knowledge.grounding.support`."""


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
