"""Reads an app's folder (`apps/NAME/app.yaml` and what it names) into the components of a release."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from interlock.core.errors import InvalidInput
from interlock.core.ids import AppName, TenantId
from interlock.core.wording import first, told
from interlock.core.yaml_text import YamlFault, read_yaml
from interlock.evals.monitoring.types import MonitorSpec
from interlock.flows.pipelines.types import PipelineSpec
from interlock.gateway.types import RouteSpec
from interlock.guardrails.types import GuardrailSpec
from interlock.knowledge.grounding.types import AnswerSpec
from interlock.knowledge.release import RetrievalSpec
from interlock.knowledge.retrieval.settings import RetrievalSteps
from interlock.knowledge.settings import FusionSettings
from interlock.prompts.files import Shelf, load_prompt
from interlock.prompts.registry import Place
from interlock.prompts.settings import Level, RuleName
from interlock.releases.flags.types import RESERVED, FlagName, FlagSpec
from interlock.releases.promotion import PromotionPolicy
from interlock.releases.rollouts.types import RolloutSpec
from interlock.releases.types import AppSource, Components

__all__ = ["DETECTED", "OutputFile", "Pins", "app_sources", "prompt_places", "validate_yaml"]

DETECTED = "detected"
"""A route's target that stands for whatever model was found on this machine; it vanishes when none was."""

Pins = Callable[[RouteSpec, RetrievalSpec | None, AnswerSpec], Mapping[str, object]]
"""Identity of the models an app uses (weights' digests, embedding space): component `models` of the release."""

M = TypeVar("M", bound=BaseModel)


class OutputFile(BaseModel):
    """The form in which an app answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: str = Field(alias="schema", description="file with a JSON Schema")
    name: str = Field(default="answer", pattern=r"^[A-Za-z0-9_-]{1,64}$")


class AppFile(BaseModel):
    """`app.yaml`."""

    model_config = ConfigDict(extra="forbid")

    description: str = Field(default="", max_length=500)
    channel: str = Field(default="dev", pattern="^(dev|stage|prod)$", description="what callers get without @channel")
    tenants: list[TenantId] | None = Field(
        default=None, min_length=1, description="only these tenants have the app; for others it does not exist"
    )
    prompt: str = "prompt.md"
    route: RouteSpec
    knowledge: RetrievalSpec | None = None
    answer: AnswerSpec = AnswerSpec()
    guardrails: GuardrailSpec | str = Field(default_factory=GuardrailSpec, description="a policy, or a file with one")
    channels: dict[Literal["stage", "prod"], PromotionPolicy] = Field(
        default_factory=dict, description="what a release must have shown before a channel points at it"
    )
    rollout: RolloutSpec = Field(default_factory=RolloutSpec, description="how a channel moves to a new release")
    lint: dict[RuleName, Level] = Field(
        default_factory=dict, description="what findings of a rule for prompts count as: off, warn or error"
    )
    flags: dict[FlagName, FlagSpec] = Field(default_factory=dict, description="what the app's own code may ask for")
    monitor: MonitorSpec = Field(
        default_factory=MonitorSpec, description="how what people are answered is watched; no part of a release"
    )
    output: OutputFile | None = Field(default=None, description="the app answers in this form; not with knowledge")
    pipeline: PipelineSpec | None = Field(
        default=None, description="the app works through the last user message in steps; not with knowledge"
    )

    @field_validator("flags")
    @classmethod
    def _named(cls, flags: dict[str, FlagSpec]) -> dict[str, FlagSpec]:
        if taken := sorted(RESERVED & set(flags)):
            raise ValueError(f"every app has a flag {taken[0]!r} by itself")
        return flags


def app_sources(
    folder: Path,
    *,
    pins: Pins,
    detected: Sequence[str] = (),
    fusion: Callable[[str], FusionSettings] | None = None,
    steps: Callable[[str], RetrievalSteps] | None = None,
    prompts: Path | None = None,
    root: Path | None = None,
) -> dict[str, AppSource]:
    """Every sub-folder with an `app.yaml`, by name. Files are read when a release is resolved, not now.

    Args:
        fusion: how a collection is searched where its app does not say; releases pin it.
        steps: which steps its searches take where its app does not say; pinned too.
        prompts: the workspace's folder of prompts; ``prompts`` in the workspace without it.
        root: the workspace; what `folder` is in without it.
    """
    sources: dict[str, AppSource] = {}
    for file in sorted(folder.glob("*/app.yaml")):
        name = file.parent.name
        if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 64:
            raise InvalidInput(f"an app's folder is named with letters, digits, - and _, not {name!r}", param="apps")
        home = folder.parent if root is None else root
        shelf = Shelf(home, home / "prompts" if prompts is None else prompts)
        loader = _Loader(file, pins, tuple(detected), shelf, fusion=fusion, steps=steps)
        try:
            described = loader.read()
        except InvalidInput as error:
            # The others still serve; whoever asks this one, and doctor, is told what is wrong.
            broken = f"broken: {error.message}"[:500]
            sources[name] = AppSource(AppName(name), broken, loader, folder=file.parent, tenants=loader.tenants)
            continue
        sources[name] = AppSource(
            AppName(name),
            described.description,
            loader,
            loader.vary,
            described.channel,
            policies=loader.policies,
            rollout=loader.rollout,
            lint=loader.lint,
            folder=file.parent,
            flags=loader.flags,
            tenants=loader.tenants,
        )
    return sources


def prompt_places(apps: Path, prompts: Path, visible: Container[str]) -> dict[str, Place]:
    """Prompts by name: of the apps that are `visible`, and those of the folder of prompts that such an app uses or no
    app uses. An app whose file is broken has the prompt that an app has by default.
    """
    users: dict[Path, list[str]] = {}
    foreign: set[Path] = set()
    for file in sorted(apps.glob("*/app.yaml")):
        try:
            named = validate_yaml(file, AppFile).prompt
        except InvalidInput:
            named = "prompt.md"
        at = (file.parent / named).resolve()
        if file.parent.name in visible:
            users.setdefault(at, []).append(file.parent.name)
        else:
            foreign.add(at)
    shared = {file.resolve() for file in prompts.glob("*.md")}
    found: dict[str, Place] = {}
    for at, names in users.items():
        if at in shared:
            continue
        for name in names:
            found[name] = Place(name, at, (name,))
    for at in sorted(shared):
        # A text of a prompt beside it is no prompt of its own.
        if "." in at.stem or (at in foreign and at not in users):
            continue
        found[f"shared.{at.stem}"] = Place(f"shared.{at.stem}", at, tuple(users.get(at, ())))
    return found


class _Flags(NamedTuple):
    """Flags of a file, as it was at one time: they are asked for often."""

    stamp: int
    declared: Mapping[str, FlagSpec]


class _Loader:
    """Reads one app's files, again only when one of them changed."""

    def __init__(
        self,
        file: Path,
        pins: Pins,
        detected: tuple[str, ...],
        shelf: Shelf,
        *,
        fusion: Callable[[str], FusionSettings] | None,
        steps: Callable[[str], RetrievalSteps] | None,
    ) -> None:
        self._shelf = shelf
        self._fusion = fusion
        self._steps = steps
        self._file = file
        self._pins = pins
        self._detected = detected
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self._known: Components | None = None
        self._named: tuple[Path, ...] = ()
        self._tenants: frozenset[TenantId] | None = None
        self._tenants_stamp = 0
        self._flags = _Flags(0, {})

    def read(self) -> AppFile:
        """`app.yaml`, validated."""
        return validate_yaml(self._file, AppFile)

    def tenants(self) -> frozenset[TenantId] | None:
        """Who has the app, as the file says now; a file that broke keeps what it said last."""
        try:
            stamp = self._file.stat().st_mtime_ns
            if stamp != self._tenants_stamp:
                named = self.read().tenants
                self._tenants = None if named is None else frozenset(named)
                self._tenants_stamp = stamp
        except (OSError, InvalidInput):
            if not self._tenants_stamp:
                raise
        return self._tenants

    def policies(self) -> Mapping[str, PromotionPolicy]:
        """What the file asks of a release now, by channel."""
        return {str(name): policy for name, policy in self.read().channels.items()}

    def lint(self) -> Mapping[str, Level]:
        """What it says that findings of rules for prompts count as."""
        return self.read().lint

    def rollout(self) -> RolloutSpec:
        """How it says that its rollouts go."""
        return self.read().rollout

    def flags(self) -> Mapping[str, FlagSpec]:
        """What its code may ask for by name."""
        found = self._flags
        if (stamp := self._file.stat().st_mtime_ns) != found.stamp:
            found = self._flags = _Flags(stamp, self.read().flags)
        return found.declared

    def __call__(self) -> Components:
        """The components the files describe now."""
        if self._known is None or self._stamps() != self._stamp:
            self._known = self._compose(self.read(), watch=True)
            self._stamp = self._stamps()
        return self._known

    def vary(self, changes: Mapping[str, Any]) -> Components:
        """As of `AppSource.vary`."""
        return self._compose(validate_yaml(self._file, AppFile, changes), watch=False)

    def _stamps(self) -> tuple[tuple[str, int, int], ...]:
        watched = [path for path in sorted(self._file.parent.glob("*")) if path.is_file()]
        watched += [path for path in self._named if path.exists()]
        return tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in watched)

    def _compose(self, app: AppFile, *, watch: bool) -> Components:
        folder = self._file.parent
        route = self._route(app.route)
        policy = app.guardrails
        shelf = Shelf(self._shelf.root, self._shelf.folder)
        prompt = load_prompt(folder / app.prompt, shelf)
        if watch:
            self._named = (folder / app.prompt, *([folder / policy] if isinstance(policy, str) else []))
            # Siblings of a shared prompt may become variants without being named anywhere.
            self._named += (*(shelf.root / name for name in prompt.files), (folder / app.prompt).parent)
        if isinstance(policy, str):
            policy = validate_yaml(folder / policy, GuardrailSpec)
        retrieval = app.knowledge
        if retrieval is not None:
            # What the settings say now is pinned, so that a later change of theirs changes no release.
            if retrieval.fusion is None and self._fusion is not None:
                retrieval = retrieval.model_copy(update={"fusion": self._fusion(retrieval.collection)})
            if retrieval.steps is None and self._steps is not None:
                retrieval = retrieval.model_copy(update={"steps": self._steps(retrieval.collection)})
        components: dict[str, Mapping[str, object]] = {
            "prompt": prompt.spec.component(),
            "route": route.model_dump(mode="json"),
            "guardrails": policy.model_dump(mode="json"),
            "models": self._pins(route, retrieval, app.answer),
        }
        if retrieval is not None:
            components["retrieval"] = retrieval.model_dump(mode="json")
            components["answer"] = app.answer.model_dump(mode="json")
        if app.output is not None:
            components["output"] = self._output(app, app.output)
        if app.pipeline is not None:
            _check_pipeline(app, app.pipeline)
            components["pipeline"] = app.pipeline.model_dump(mode="json", exclude_defaults=True)
        return components

    def _output(self, app: AppFile, output: OutputFile) -> Mapping[str, object]:
        file = self._file.parent / output.schema_
        if app.knowledge is not None:
            raise InvalidInput(
                "an app that answers from documents answers in sentences with citations",
                param="output",
                hint="leave output out, or knowledge",
            )
        if file not in self._named:
            self._named += (file,)
        try:
            schema = json.loads(file.read_text("utf-8"))
        except OSError as error:
            raise InvalidInput(f"{file.name} cannot be read: {error.strerror}", param="output.schema") from error
        except ValueError as error:
            raise InvalidInput(f"{file.name} is not JSON", param="output.schema") from error
        if not isinstance(schema, dict) or not schema:
            raise InvalidInput(f"{file.name} is no JSON Schema: it is an object", param="output.schema")
        return {"schema": schema, "name": output.name}

    def _route(self, route: RouteSpec) -> RouteSpec:
        targets = [found for name in route.targets for found in (self._detected[:1] if name == DETECTED else (name,))]
        if not targets:
            raise InvalidInput(
                f"the app {self._file.parent.name!r} has only the target 'detected', and nothing was detected",
                param="route.targets",
                hint="add a fallback target, e.g. local/smollm2-135m-instruct",
            )
        return route.model_copy(update={"targets": targets})


# Any: YAML before validation.
def _check_pipeline(app: AppFile, spec: PipelineSpec) -> None:
    if app.knowledge is not None:
        raise InvalidInput(
            "an app that works through a text does not answer from documents",
            param="pipeline",
            hint="leave pipeline out, or knowledge",
        )
    if (spec.kind == "extract") != (app.output is not None):
        raise InvalidInput(
            "`pipeline: {kind: extract}` and `output` go together: the form that is filled in", param="pipeline.kind"
        )


def validate_yaml(path: Path, model: type[M], changes: Mapping[str, Any] | None = None) -> M:
    """Read a YAML file into a model.

    Args:
        changes: merged into what the file says; a key that is given as None is left out.

    Raises: InvalidInput naming the file and the field.
    """
    # Every app has an `app.yaml`: the folder tells them apart.
    name = f"{path.parent.name}/{path.name}".removeprefix("/")
    try:
        # Any: YAML before validation.
        raw: Any = read_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read: {error.strerror}", param=path.name) from error
    except (YamlFault, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise InvalidInput(f"{name} is not YAML{where}", param=path.name) from error
    if changes and isinstance(raw or {}, dict):
        raw = _merged(raw or {}, changes)
    try:
        return model.model_validate(raw or {})
    except ValidationError as error:
        fault = first(error)
        field = ".".join(str(step) for step in fault["loc"])
        where = f" at {field!r}" if field else ""
        raise InvalidInput(f"{name} is wrong{where}: {told(model, fault)}", param=field or path.name) from error


# Any: YAML before validation.
def _merged(said: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(said)
    for name, value in changes.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(found.get(name), Mapping):
            found[name] = _merged(found[name], value)
        else:
            found[name] = value
    return found
