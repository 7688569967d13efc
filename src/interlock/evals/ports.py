"""What plugs into evaluation: targets that answer, metrics that score, formats that cases are read from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict

from interlock.core.ports import Embedder
from interlock.evals.types import Case, Output, Score

__all__ = [
    "AskJudge",
    "Better",
    "CaseFormat",
    "CheckClaim",
    "ClaimVerdict",
    "Derived",
    "Detected",
    "Detector",
    "ImportedSuite",
    "Instruments",
    "JudgeReply",
    "Metric",
    "NoOptions",
    "Scale",
    "SuiteFormat",
    "Target",
    "TargetPlugin",
]

Scale = Literal["binary", "unit", "real"]
"""``binary``: 0 or 1; ``unit``: in [0, 1]; ``real``: any number, such as seconds or tokens."""
Better = Literal["higher", "lower"]


class NoOptions(BaseModel):
    """For a metric without options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Target(Protocol):
    """Something that answers cases."""

    @property
    def name(self) -> str:
        """For people: ``app/handbook@stage``, an address without its secrets, a command."""

    @property
    def identity(self) -> Mapping[str, object]:
        """Everything that decides its answers, as far as it can be known: kept answers are found by it.

        Empty when it cannot be known (a command, somebody else's server): nothing is kept then.
        """

    @property
    def release_id(self) -> str:
        """Digest of the release that answers, frozen or not; empty where none does. A report is evidence of it."""

    async def run(self, case: Case, repeat: int) -> Output:
        """Answer one case, the `repeat`-th time (from 0). A failure of the target is an output with `error` set.

        Raises: Misconfigured, Unauthenticated and the like: no case can be answered, so the whole run stops.
        """

    async def close(self) -> None:
        """Give back what it holds."""


class TargetPlugin(Protocol):
    """A kind of target that needs no workspace."""

    def open(self, address: str, options: Mapping[str, str]) -> Target:
        """Open one by its address: what stands behind ``KIND:``, for ``http`` and ``https`` the whole of it.

        Raises: InvalidInput, NotFound.
        """


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """Whether texts support a claim."""

    supported: bool
    score: float
    """In [0, 1]."""
    reason: str = ""


CheckClaim = Callable[[str, Sequence[str]], Awaitable[ClaimVerdict]]
"""Whether the passages (second) say what the claim (first) says."""


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What a model wrote as a judge."""

    text: str
    model: str
    cost_nano: int = 0


AskJudge = Callable[[str, Mapping[str, Any], str], Awaitable[JudgeReply]]
"""Ask a judge: instructions and material in one text, the JSON schema its reply has to keep to, and which model; empty
for the one of the run.
"""


class Detected(NamedTuple):
    """A span of a text, and what it is."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds spans of a text, without a model."""

    find: Callable[[str], Sequence[Detected]]
    kinds: tuple[str, ...]
    """All that it can find: of other kinds it says nothing."""


@dataclass(frozen=True, slots=True)
class Instruments:
    """What metrics may use beside case and output. What is None is not there: a metric that needs it gives no score."""

    embedder: Embedder | None = None
    check_claim: CheckClaim | None = None
    ask_judge: AskJudge | None = None
    judge: str = ""
    """The model of the run, as it was named: part of a judge's identity."""
    references: Sequence[str] = ()
    """All reference texts of the suite's cases: what is common in them tells little."""
    workspace: Path | None = None
    """Folder of the suite: files that options name are looked for here."""
    licences: Sequence[Path] = ()
    """Folders of judges' licences, besides ``judges`` beside the suite."""
    detectors: Mapping[str, Detector] = field(default_factory=dict)
    """By name: ``pii``, ``secrets``, ``injection``."""
    protected: Sequence[str] = ()
    """The target's own instructions, which no answer should give away. In no report and no journal."""


OptionsT = TypeVar("OptionsT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Metric(Generic[OptionsT]):
    """A metric: one file, one of these as its `plugin`."""

    options: type[OptionsT]
    scale: Scale
    score: Callable[[Case, Output, OptionsT, Instruments], Score | Awaitable[Score]]
    """Pure but for the instruments. Raising is a fault of the metric: it is recorded, and no gate passes on it."""
    better: Better = "higher"
    needs: frozenset[Literal["embedder", "token_vectors", "checker", "judge", "detectors"]] = field(
        default_factory=frozenset
    )
    version: int = 1
    """Goes up when the same answer gets another value: kept scores are then measured again."""
    source: str = ""
    """Paper or implementation whose values it gives."""
    libraries: tuple[str, ...] = ()
    """Modules it imports when it scores: a missing one is told before the first case."""


@dataclass(frozen=True, slots=True)
class Derived(Generic[OptionsT]):
    """A metric of the values of another one: over the repeats of a case, or over the cases of a pair."""

    options: type[OptionsT]
    """With a field ``of``: the other metric's name in the suite."""
    scale: Scale
    over: Literal["repeats", "pair"]
    combine: Callable[[Sequence[float], OptionsT], Score]
    """Of all values of one case, in order of their repeats; or one value (the mean over repeats) a case of the pair."""
    better: Better = "higher"
    version: int = 1
    source: str = ""


class CaseFormat(Protocol):
    """A format that cases are read from."""

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:  # Any: fields before validation
        """Where a case stands (``line 3``) and its fields, as :class:`~interlock.evals.types.Case` takes them.

        Raises: InvalidInput naming the place.
        """


@dataclass(frozen=True, slots=True)
class ImportedSuite:
    """Another tool's tests, as far as they could be taken over."""

    description: str
    cases: Sequence[Mapping[str, Any]]  # Any: fields before validation
    metrics: Sequence[Mapping[str, Any]]  # Any: as in a suite's file
    left_out: tuple[str, ...]
    """What could not be taken over, for people."""


@runtime_checkable
class SuiteFormat(CaseFormat, Protocol):
    """A format that says what is measured too."""

    def suite(self, path: Path) -> ImportedSuite:
        """All of it. Raises: InvalidInput naming the place."""
