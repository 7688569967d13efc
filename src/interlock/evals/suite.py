"""Suites: what is tested, as files say it. Read, checked whole, and named by the digest of everything that decides."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from interlock.core.canonical import digest_json
from interlock.core.errors import InvalidInput, NotFound, TooLarge
from interlock.core.yaml_text import YamlFault, read_yaml
from interlock.evals.formats import formats
from interlock.evals.gate.rules import GateSpec
from interlock.evals.metrics import metrics
from interlock.evals.ports import Derived, Metric
from interlock.evals.types import Case

__all__ = [
    "CaseFile",
    "MeasuredBy",
    "MetricUse",
    "RunSpec",
    "Suite",
    "SuiteSpec",
    "case_digest",
    "measured_by",
    "measuring",
    "overridden",
    "read_suite",
    "suite_from",
    "with_variables",
    "write_variables",
]

MOST_FILE_BYTES = 512 << 20
MOST_CASES = 1_000_000
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.@-]{0,63}$")]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CaseFile(_Spec):
    """Cases in a file of their own."""

    file: str = Field(min_length=1, description="beside the suite")
    format: str | None = Field(default=None, description="by the file's ending where it is left out")
    split: str | None = Field(default=None, description="only these cases of it")
    tags: list[str] = Field(default_factory=list, description="only cases with one of these")
    sealed: bool = Field(default=False, description="held out: rows are never shown, and every use is counted")
    most_uses: int | None = Field(default=None, ge=1, description="of a sealed file: refuse more than so many runs")

    @model_validator(mode="after")
    def _counts_what_is_sealed(self) -> CaseFile:
        if self.most_uses is not None and not self.sealed:
            raise ValueError("most_uses goes with sealed: true")
        return self


class MetricUse(_Spec):
    """One metric of a suite."""

    metric: str = Field(min_length=1, description="which; see interlock eval metrics")
    name: _Name | None = Field(default=None, description="what it is called here, where it is used twice")
    tags: list[str] = Field(default_factory=list, description="only for cases with one of these")
    after: list[str] = Field(default_factory=list, description="cheaper metrics to ask first; see `only_when_disagree`")
    only_when_disagree: bool = Field(
        default=False, description="measure only where the metrics of `after` differ by half or more; else their mean"
    )
    options: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it is called."""
        return self.name or self.metric

    @model_validator(mode="after")
    def _asks_somebody(self) -> MetricUse:
        if self.only_when_disagree and len(self.after) < 2:
            raise ValueError("only_when_disagree needs two metrics or more in after")
        return self


class RunSpec(_Spec):
    """How it is run. None of it decides a score."""

    concurrency: int = Field(default=8, ge=1, le=512)
    timeout_s: float = Field(default=120.0, gt=0, le=3600)
    max_cost_usd: float | None = Field(default=None, gt=0, description="start nothing more once so much is spent")
    stop_early: bool = Field(default=False, description="stop as soon as the gate is clear; see `interlock eval run`")
    seed: int = Field(default=7, description="order of the cases where a run may stop early")


def _kind(entry: object) -> str:
    if isinstance(entry, dict):
        return "a file" if "file" in entry else "a case"
    return "a file" if isinstance(entry, CaseFile) else "a case"


_File = Annotated[CaseFile, Tag("a file")]
_Case = Annotated[Case, Tag("a case")]


class SuiteSpec(_Spec):
    """A suite file."""

    suite: _Name
    description: str = ""
    cases: list[Annotated[_File | _Case, Discriminator(_kind)]] = Field(
        min_length=1, description="files, or cases written here"
    )
    split: str | None = Field(default=None, description="only cases of this split")
    variables: dict[str, JsonValue] = Field(
        default_factory=dict, description="values for the prompt of the app, where a case gives no other"
    )
    repeats: int = Field(default=1, ge=1, le=100, description="how often each case is asked")
    metrics: list[MetricUse] = Field(min_length=1, max_length=64)
    gate: GateSpec | None = None
    floors: bool = Field(default=True, description="measure answers without effort too, and flag cases they pass")
    run: RunSpec = RunSpec()

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        """``metrics: [exact, {metric: facts}]``: a name alone is a metric without options."""
        if isinstance(given, dict) and isinstance(given.get("metrics"), list):
            uses = [{"metric": each} if isinstance(each, str) else each for each in given["metrics"]]
            return {**given, "metrics": uses}
        return given


@dataclass(frozen=True)
class MeasuredBy:
    """A metric as this suite uses it, its options checked."""

    use: MetricUse
    metric: Metric[Any] | Derived[Any]  # Any: each has options of its own type
    options: BaseModel

    @property
    def label(self) -> str:
        """What it is called here."""
        return self.use.label

    @functools.cached_property
    def identity(self) -> str:
        """Digest of all that decides its values."""
        told = self.use.model_dump(mode="json", exclude={"name"})
        return digest_json({**told, "version": self.metric.version, "options": self.options.model_dump(mode="json")})


@dataclass(frozen=True)
class Suite:
    """A suite, read whole."""

    spec: SuiteSpec
    folder: Path
    cases: Sequence[Case]
    """In the order of the files, after splits and tags."""
    measured_by: Sequence[MeasuredBy]
    sealed: Mapping[str, CaseFile]
    """By the digest of its cases: files whose rows are never shown."""
    sealed_ids: frozenset[str]
    """Cases of these files."""

    @property
    def name(self) -> str:
        """As its file says."""
        return self.spec.suite

    @functools.cached_property
    def digest(self) -> str:
        """Of cases, metrics, repeats and gate: runs of two digests are not the same test. Not of how it is run."""
        return digest_json(
            {
                "suite": self.spec.suite,
                "cases": self.cases_digest,
                "metrics": {each.label: each.identity for each in self.measured_by},
                "repeats": self.spec.repeats,
                "gate": None if self.spec.gate is None else self.spec.gate.model_dump(mode="json"),
            }
        )

    @functools.cached_property
    def cases_digest(self) -> str:
        """Of all cases in their order."""
        return digest_json([case_digest(case) for case in self.cases])


def case_digest(case: Case) -> str:
    """Of everything a case says."""
    # Cases without variables keep the digest they had before there were any: runs of then stay comparable.
    without = None if case.variables else {"variables"}
    return digest_json(case.model_dump(mode="json", by_alias=True, exclude=without))


def read_suite(path: Path) -> Suite:
    """Read a suite file, and every case file it names.

    Raises: NotFound; InvalidInput naming the field, or the file and line: an unknown field, a wrong type, an id that
        is there twice, no cases left after split and tags, a gate over a metric that the suite does not have, or over
        a slice that no case has.
    """
    return suite_from(_spec(path), path.parent)


def suite_from(spec: SuiteSpec, folder: Path) -> Suite:
    """The suite that `spec` describes, with the case files that it names in `folder`. Raises: as `read_suite`."""
    cases: list[Case] = []
    sealed: dict[str, CaseFile] = {}
    sealed_ids: set[str] = set()
    for entry in spec.cases:
        if isinstance(entry, Case):
            _check_is_json(entry)
            cases.append(entry)
            continue
        found = list(_cases_of(folder, entry))
        if entry.sealed:
            sealed[digest_json([case_digest(case) for case in found])] = entry
            sealed_ids.update(case.id for case in found)
        cases.extend(found)
        if len(cases) > MOST_CASES:
            raise TooLarge(f"more than {MOST_CASES:,} cases", param="cases", hint="split the suite")
    if spec.split is not None:
        cases = [case for case in cases if case.split == spec.split]
    if not cases:
        named = f"the split {spec.split!r}" if spec.split is not None else "the suite"
        raise InvalidInput(f"{named} has no cases", param="split" if spec.split is not None else "cases")
    twice = [each for each, count in Counter(case.id for case in cases).items() if count > 1]
    if twice:
        raise InvalidInput(
            f"{len(twice)} case ids are there twice, first {twice[0]!r}", param="id", hint="an id names one case"
        )
    made = Suite(spec, folder, cases, _measured_by(spec), sealed, frozenset(sealed_ids))
    _check_slices(spec, cases)
    return with_variables(made, spec.variables)


def _check_is_json(case: Case) -> None:
    # YAML has .nan and .inf, and its texts may hold half of a surrogate pair.
    try:
        case_digest(case)
    except ValueError as error:
        raise InvalidInput(
            f"the case {case.id!r} holds a number or a text that JSON cannot say", param="cases", hint="no .nan or .inf"
        ) from error


def _check_slices(spec: SuiteSpec, cases: Sequence[Case]) -> None:
    if spec.gate is None or not spec.gate.slices:
        return
    known = {key for case in cases for key in (*case.slices, *(f"tag:{tag}" for tag in case.tags))}
    for number, key in enumerate(spec.gate.slices):
        if key not in known:
            raise InvalidInput(
                f"the gate asks for the slice {key!r}, which no case has",
                param=f"gate.slices.{number}",
                hint=f"one of {', '.join(sorted(known))}"[:200] if known else "give cases `slices`",
            )


def with_variables(suite: Suite, values: Mapping[str, JsonValue]) -> Suite:
    """The suite with these values for the app's prompt in every case that gives no other."""
    if not values:
        return suite
    cases = [case.model_copy(update={"variables": {**values, **case.variables}}) for case in suite.cases]
    return replace(suite, cases=cases)


def write_variables(suite: Suite, values: Mapping[str, JsonValue]) -> Suite:
    """Write values for the app's prompt into the suite's own file, for every case that gives no other."""
    place = suite.folder / f"{suite.name}.yaml"
    said = suite.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    place.write_text(yaml.safe_dump({**said, "variables": dict(values)}, sort_keys=False, allow_unicode=True), "utf-8")
    return read_suite(place)


def unasked(suite: Suite) -> list[Case]:
    """Cases of the suite's files that its split and tags leave out; nothing of sealed files. Reads the files again.

    Raises: as `read_suite`.
    """
    asked = {case.id for case in suite.cases}
    found: list[Case] = []
    for entry in suite.spec.cases:
        if isinstance(entry, Case):
            found.append(entry)
        elif not entry.sealed:
            found.extend(_cases_of(suite.folder, entry.model_copy(update={"split": None, "tags": []})))
    return [case for case in found if case.id not in asked]


def overridden(
    suite: Suite,
    *,
    repeats: int | None = None,
    concurrency: int | None = None,
    max_cost_usd: float | None = None,
    stop_early: bool | None = None,
) -> Suite:
    """The suite, run otherwise. Other repeats make another test of it, the rest does not."""
    asked = {"concurrency": concurrency, "max_cost_usd": max_cost_usd, "stop_early": stop_early}
    how = suite.spec.run.model_copy(update={name: value for name, value in asked.items() if value is not None})
    spec = suite.spec.model_copy(update={"run": how, "repeats": repeats or suite.spec.repeats})
    return replace(suite, spec=spec)


def measuring(suite: Suite, names: Sequence[str]) -> Suite:
    """The suite with further metrics of these names, as far as it lacks them. They make another test of it."""
    known = {use.metric for use in suite.spec.metrics}
    added = [MetricUse(metric=name) for name in names if name not in known]
    if not added:
        return suite
    spec = suite.spec.model_copy(update={"metrics": [*suite.spec.metrics, *added]})
    return replace(suite, spec=spec, measured_by=_measured_by(spec))


def _spec(path: Path) -> SuiteSpec:
    try:
        if path.stat().st_size > 16 << 20:
            raise TooLarge(
                f"the suite file {path.name!r} is larger than 16 MiB", param="suite", hint="put its cases into a file"
            )
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no suite {path.name!r}", param="suite", hint="interlock eval run SUITE.yaml"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the suite {path.name!r} cannot be read as UTF-8 text", param="suite") from error
    try:
        given = read_yaml(text)
    except YamlFault as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise InvalidInput(f"the suite {path.name!r} is not YAML{where}", param="suite") from error
    if not isinstance(given, dict):
        raise InvalidInput(f"the suite {path.name!r} is not a mapping of fields", param="suite")
    try:
        return SuiteSpec.model_validate(given)
    except ValidationError as error:
        field, message = _fault(error)
        raise InvalidInput(f"{path.name!r}: {field}: {message}", param=field) from error


def _fault(error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_url=False, include_input=False)[0]
    at = [str(step) for step in first["loc"] if step not in {"a file", "a case"}]
    return ".".join(at) or "suite", str(first["msg"])


def _cases_of(folder: Path, entry: CaseFile) -> Iterator[Case]:
    place = (folder / entry.file).resolve()
    try:
        size = place.stat().st_size
    except OSError as error:
        raise NotFound(f"there is no case file {entry.file!r} beside the suite", param="cases.file") from error
    if not place.is_file():
        raise InvalidInput(f"{entry.file!r} is no file", param="cases.file")
    if size > MOST_FILE_BYTES:
        raise TooLarge(
            f"{entry.file!r} has {size >> 20:,} MiB; {MOST_FILE_BYTES >> 20} MiB at most",
            param="cases.file",
            hint="split it into several files",
        )
    name = entry.format or _SUFFIXES.get(place.suffix.lower())
    if name is None:
        raise InvalidInput(
            f"the format of {entry.file!r} cannot be told by its ending",
            param="cases.format",
            hint=f"one of {', '.join(formats.names())}",
        )
    count = found = 0
    for where, fields in formats.get(name).read(place):
        count += 1
        if count > MOST_CASES:
            raise TooLarge(f"{entry.file!r} has more than {MOST_CASES:,} cases", param="cases.file")
        try:
            case = Case.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"])) or "case"
            raise InvalidInput(f"{where} of {entry.file!r}: {field}: {first['msg']}", param=field) from error
        if entry.split is not None and case.split != entry.split:
            continue
        if entry.tags and not set(entry.tags) & set(case.tags):
            continue
        found += 1
        yield case
    if not found:
        told = (
            f"none of its {count:,} cases is in the split or has the tags asked for" if count else "it holds no cases"
        )
        raise InvalidInput(f"{entry.file!r}: {told}", param="cases.split" if count else "cases.file")


def measured_by(given: Sequence[MetricUse]) -> list[MeasuredBy]:
    """Metrics with their options checked. Raises: InvalidInput naming the metric and the field."""
    uses = {use.label: use for use in given}
    if len(uses) != len(given):
        raise InvalidInput("two metrics have the same name", param="metrics.name", hint="give one of them a name")
    return [_measure(use, uses) for use in given]


def _measured_by(spec: SuiteSpec) -> list[MeasuredBy]:
    made = measured_by(spec.metrics)
    # Fields every run has, whatever it measures.
    known = {*(each.label for each in made), "failed"}
    for number, rule in enumerate(spec.gate.rules if spec.gate else ()):
        if rule.metric not in known:
            raise InvalidInput(
                f"the gate asks for {rule.metric!r}, which the suite does not measure",
                param=f"gate.rules.{number}.metric",
                hint=f"one of {', '.join(sorted(known))}",
            )
        _check_rule_fits(rule.metric, number, spec, made)
    return made


def _check_rule_fits(label: str, number: int, spec: SuiteSpec, made: Sequence[MeasuredBy]) -> None:
    assert spec.gate is not None
    rule = spec.gate.rules[number]
    scale = next((each.metric.scale for each in made if each.label == label), "binary")
    threshold = rule.at_least if rule.at_least is not None else rule.at_most
    if scale != "real" and threshold is not None and not 0 <= threshold <= 1:
        raise InvalidInput(f"{label!r} lies between 0 and 1, not {threshold:g}", param=f"gate.rules.{number}")
    if scale != "real" and rule.margin_ratio is not None:
        raise InvalidInput(
            f"{label!r} lies between 0 and 1: ask for margin, not margin_ratio", param=f"gate.rules.{number}"
        )


def _measure(use: MetricUse, uses: Mapping[str, MetricUse]) -> MeasuredBy:
    metric = metrics.get(use.metric)
    try:
        options = metric.options.model_validate(use.options)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(["metrics", use.label, "options", *map(str, first["loc"])])
        raise InvalidInput(f"{field}: {first['msg']}", param=field) from error
    asked = [*use.after, *([str(getattr(options, "of", ""))] if isinstance(metric, Derived) else [])]
    for other in asked:
        if other not in uses or other == use.label:
            raise InvalidInput(
                f"the metric {use.label!r} builds on {other!r}, which the suite does not have",
                param=f"metrics.{use.label}",
            )
        if isinstance(metrics.get(uses[other].metric), Derived) or uses[other].after:
            raise InvalidInput(
                f"the metric {use.label!r} builds on {other!r}, which builds on another one itself",
                param=f"metrics.{use.label}",
            )
    if isinstance(metric, Derived) and use.after:
        raise InvalidInput(f"{use.label!r} is made of other metrics: after has no sense", param=f"metrics.{use.label}")
    return MeasuredBy(use, metric, options)
