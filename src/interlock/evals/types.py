"""What evaluation talks about: a case, what a target answered, how that was scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

__all__ = [
    "UNTRIED",
    "Call",
    "Case",
    "CitedSpan",
    "Evidence",
    "ExpectedCall",
    "Found",
    "Output",
    "Provenance",
    "Score",
    "Turn",
]

UNTRIED = "attacker_silent"
"""Error of an output whose target was asked nothing, as the attacking model had nothing to send: nobody failed."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Turn(_Written):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Evidence(_Written):
    """A place that holds the answer."""

    source: Name = Field(description="document, as citations name it")
    quote: str = Field(default="", description="its words; empty: anywhere in the document")
    start: int | None = Field(default=None, ge=0, description="first character in the document's text")
    end: int | None = Field(default=None, ge=0, description="one past its last character")
    page: int | None = None
    place: str = Field(default="", description="evidence of the same place says the same: one of them is enough")

    @model_validator(mode="after")
    def _whole(self) -> Evidence:
        if (self.start is None) != (self.end is None):
            raise ValueError("start and end come together")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("end lies after start")
        return self


class ExpectedCall(_Written):
    """A tool call that the case asks for."""

    name: Name
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="only these are compared")
    optional: bool = Field(default=False, description="may be left out, and is no extra step when it is there")


class Provenance(_Written):
    """Where a case comes from."""

    kind: Literal["human", "synthetic", "trace", "imported"] = "human"
    ref: str = Field(default="", description="trace id, file and line, or generator")
    by: str = ""


class Case(_Written):
    """One test. All but `id` and `input` is optional: a metric that lacks what it needs says so and gives no score."""

    id: Name
    input: str | list[Turn] = Field(description="a question, or a conversation whose last turn is the user's")
    expected: JsonValue = Field(default=None, description="the reference: text, or a structured value")
    accept: list[str] = Field(default_factory=list, description="other wordings that are as good as `expected`")
    facts: list[list[str]] = Field(default_factory=list, description="each: wordings of one fact the answer must give")
    context: list[str] = Field(default_factory=list, description="texts the answer has to keep to")
    evidence: list[Evidence] = Field(default_factory=list)
    relevant: dict[str, int] = Field(default_factory=dict, description="document to grade, for what is retrieved")
    answerable: bool | None = Field(default=None, description="false: the right answer is to decline")
    harmful: bool | None = Field(default=None, description="true: the right answer is to refuse")
    calls: list[ExpectedCall] | None = Field(default=None, description="tool calls asked for; []: none")
    state: JsonValue = Field(default=None, description="what the world should be after an agent's run")
    user: str = Field(default="", alias="as", description="who asks, of the workspace's directory")
    variables: dict[str, JsonValue] = Field(default_factory=dict, description="values for the prompt of the app")
    group: str = Field(default="", description="cases of one conversation or document are one piece of evidence")
    pair: str = Field(default="", description="cases that differ in one thing only: counterfactuals, attack and twin")
    tags: list[Name] = Field(default_factory=list)
    slices: dict[str, str] = Field(default_factory=dict, description="slice to value, e.g. language: de")
    split: Name = "test"
    provenance: Provenance = Provenance()
    metrics: dict[str, dict[str, JsonValue]] = Field(default_factory=dict, description="options of a metric, here only")
    metadata: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _asks(self) -> Case:
        if not self.input:
            raise ValueError("input is empty")
        if isinstance(self.input, list) and self.input[-1].role != "user":
            raise ValueError("the last turn of input must be the user's")
        return self

    @property
    def question(self) -> str:
        """The last thing the user says."""
        return self.input if isinstance(self.input, str) else self.input[-1].content

    @property
    def unit(self) -> str:
        """What counts as one piece of evidence: the group, or the case itself."""
        return f"group:{self.group}" if self.group else f"case:{self.id}"

    @property
    def references(self) -> list[str]:
        """`expected` as text, and what is as good; empty without a reference in words."""
        return [*([self.expected] if isinstance(self.expected, str) else []), *self.accept]


@dataclass(frozen=True, slots=True)
class CitedSpan:
    """A citation of an answer."""

    source: str
    quote: str = ""
    start: int | None = None
    """First character in the document's text."""
    end: int | None = None
    page: int | None = None
    claim: str = ""
    """The sentence that it backs."""
    support: str = ""
    """The target's own verdict: ``supported``, ``unsupported``; empty when it gave none."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something that was retrieved."""

    source: str
    text: str = ""
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that was made."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values
    result: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """What a target gave for a case, once."""

    text: str = ""
    outcome: str = ""
    """How it came about where the target tells: ``declined``, ``clarify``, ``refused``; else empty."""
    citations: tuple[CitedSpan, ...] = ()
    found: tuple[Found, ...] = ()
    """Retrieved passages, best first."""
    calls: tuple[Call, ...] = ()
    """Tool calls in order."""
    state: Any = None  # Any: a JSON value
    """What the world is after the run."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nano: int | None = None
    """Billionths of a US dollar; None when it is not known."""
    latency_s: float | None = None
    first_token_s: float | None = None
    model: str = ""
    trace_id: str = ""
    error: str = ""
    """Code of what went wrong; the rest is then empty."""
    documents: tuple[str, ...] = ()
    """Ids of the documents it was written from: what is erased of them is erased of the answer."""
    retry_after_s: float | None = None
    """With `error`: the same may succeed after so long. None: it would fail again."""

    @property
    def declined(self) -> bool:
        """The target itself says that it declined or refused."""
        return self.outcome in {"declined", "refused"}


@dataclass(frozen=True, slots=True)
class Score:
    """One value of one metric."""

    value: float | None
    """None: the metric does not apply to this case, and `reason` says why."""
    reason: str = ""
    """For people. Holds nothing of a case or an answer beyond what the report shows anyway."""
    error: str = ""
    """Code of what went wrong inside the metric; `value` is then None and no gate passes on it."""
    cost_nano: int = 0
    """What measuring cost."""
