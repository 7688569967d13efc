"""Where knowledge comes from: ``knowledge/*.yaml``. What a kind of source needs is the model of its connector."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    model_validator,
)

from interlock.core.canonical import digest_json
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.wording import first, told
from interlock.knowledge.cleaning.policy import Policy
from interlock.knowledge.cleaning.settings import CleaningSettings, InjectionPolicy, ValuePolicy
from interlock.knowledge.connectors import connectors
from interlock.knowledge.external.settings import ExternalIndex
from interlock.knowledge.globs import matches
from interlock.knowledge.languages import KNOWN
from interlock.knowledge.transcripts import LOADER, SUFFIXES, TranscriptionSettings

__all__ = [
    "Interval",
    "MetadataRule",
    "PermissionRule",
    "Source",
    "SourceSpec",
    "absolute",
    "matches",
    "parse_spec",
    "read_spec",
]

Reader = Annotated[str, StringConstraints(pattern=r"^(public|user:.{1,200}|group:.{1,200})$")]
Suffix = Annotated[str, StringConstraints(pattern=r"^\.[a-z0-9_+-]{1,20}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DEFAULT_KIND = "folder"


def _known_language(code: str) -> str:
    if code not in KNOWN:
        raise ValueError(f"{code!r} is no language that can be read; known: {', '.join(sorted(KNOWN))}")
    return code


def _interval(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    found = re.fullmatch(r"([1-9][0-9]{0,5}) ?([smhdw])", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("it is a time such as 90s, 15m, 1h, 7d or 2w")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _plainly(value: timedelta) -> str:
    return f"{int(value.total_seconds())}s"


Language = Annotated[str, AfterValidator(_known_language)]
Interval = Annotated[timedelta, BeforeValidator(_interval), PlainSerializer(_plainly, return_type=str)]
"""Written ``90s``, ``15m``, ``1h``, ``7d`` or ``2w``."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """What every kind of source has. Globs match the path below it: ``*`` within a folder, ``**`` across folders."""

    kind: str
    name: str = ""
    """Names it in reports, commands and webhooks; made from the kind and the place when left out"""
    include: tuple[str, ...] = ("**/*",)
    """Globs of what is taken"""
    exclude: tuple[str, ...] = ()
    """Globs of what is left out of that"""
    prefix: str = ""
    """Put before every path, so that two sources with the same paths can live in one collection"""
    owner: str = Field(default="", max_length=200)
    """Who answers for the content: a person or a team"""
    licence: str = Field(default="", max_length=200)
    """Under which terms the content may be used, e.g. an SPDX name"""
    pii: ValuePolicy = "allow"
    """What happens to a document with personal data in it: `allow`, `flag`, `redact`, `quarantine` or `refuse`"""
    secrets: ValuePolicy = "flag"
    """The same for keys, tokens and passwords"""
    injection: InjectionPolicy = "flag"
    """What happens to a document that seems to give orders to a model: `allow`, `flag` or `quarantine`"""
    webhook_secret_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")
    """Environment variable with the secret that calls of the source's webhook are signed with; none, no webhook"""
    schedule: Interval | None = None
    """How often the worker looks for changes; without it only when asked"""
    fresh_within: Interval | None = None
    """The source is told as stale when its last complete look is older than this"""
    full_every: Interval = timedelta(days=7)
    """How often everything is listed again, which finds what reports of changes left out"""
    allow_removals: bool = False
    """Let one run remove all of its documents, or more than half of 20 or more, without being asked for it"""
    readers_from: Literal["rules", "source"] = "rules"
    """`rules`: the permissions of this file decide; `source`: those of the source system, through `readers_map`"""
    readers_map: Mapping[str, tuple[Reader, ...]] = {}
    """Readers for each name the source system uses; a name that is not here gives nobody a right"""

    states_readers: ClassVar[bool] = False
    """Whether the source system says who may read."""
    unimportant: ClassVar[frozenset[str]] = frozenset(
        {
            "name",
            "owner",
            "licence",
            "pii",
            "secrets",
            "injection",
            "webhook_secret_env",
            "schedule",
            "fresh_within",
            "full_every",
            "allow_removals",
        }
    )
    """Fields that do not change what a listing gives."""

    @model_validator(mode="after")
    def _can_state_readers(self) -> Self:
        if self.name and not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", self.name):
            raise ValueError("name has small letters, digits, - and _ only")
        if self.readers_from == "source" and not self.states_readers:
            raise ValueError(f"readers_from: a source of the kind {self.kind!r} does not say who may read; use rules")
        if self.readers_map and self.readers_from != "source":
            raise ValueError("readers_map: it is used with readers_from: source only")
        return self

    def place(self) -> str:
        """What makes it another source than the others of its kind: its address."""
        raise NotImplementedError

    def based(self, base: Path) -> Self:
        """The same with relative paths made absolute, starting at `base`."""
        return self

    def digest(self) -> str:
        """Changes when a cursor of before is of no use."""
        return digest_json(self.model_dump(mode="json", exclude=set(self.unimportant)))

    def readers_for(self, stated: Iterable[str]) -> frozenset[str] | None:
        """Readers for the names the source system gave; None when the rules of the file decide."""
        if self.readers_from == "rules":
            return None
        return frozenset(reader for name in stated for reader in self.readers_map.get(name, ()))

    @property
    def policy(self) -> Policy:
        """What is done about what its documents contain."""
        return Policy(self.pii, self.secrets, self.injection)

    def all_readers(self) -> frozenset[str]:
        """Everybody whom the map can name."""
        return frozenset(reader for readers in self.readers_map.values() for reader in readers)


class PermissionRule(_Strict):
    """Who may read what matches."""

    match: str
    readers: tuple[Reader, ...]


class MetadataRule(_Strict):
    """Facts about what matches, e.g. ``status: withdrawn``. Wins over the document's own front matter."""

    match: str
    set: Mapping[str, str]


class SourceSpec(_Strict):
    """One collection: its sources, who may read them, and facts about them. One file owns one collection."""

    collection: Name
    sources: tuple[Source, ...] = ()
    index: ExternalIndex | None = None
    """An index elsewhere that holds the documents, instead of sources: it is asked, and nothing is ingested."""
    languages: tuple[Language, ...] = ()
    """ISO 639-1 codes of what the documents are written in; when empty, each document is looked at."""
    loaders: Mapping[Suffix, str] = Field(default_factory=dict)
    """Suffix to the name of the loader that reads it, e.g. ``.pdf`` to a plug-in of yours."""
    transcription: TranscriptionSettings | None = None
    """Which model writes down what is said in recordings; without it they are left out."""
    cleaning: CleaningSettings = CleaningSettings()
    """How documents are compared with one another"""
    permissions: tuple[PermissionRule, ...] = ()
    """First match wins; a document that matches nothing is readable by nobody."""
    metadata: tuple[MetadataRule, ...] = ()
    """First match wins."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.index is None and not self.sources:
            raise ValueError("it needs sources, or an index that is elsewhere")
        if self.index is not None and (self.sources or self.loaders or self.permissions or self.metadata):
            raise ValueError(
                "index: a collection that is searched elsewhere has no sources, loaders, permissions or metadata of "
                "its own; who may read stands in the field that index.fields.readers names"
            )
        return self

    @property
    def reads(self) -> Mapping[str, str]:
        """Loaders by suffix where this file decides."""
        if self.transcription is None:
            return self.loaders
        return {**dict.fromkeys(SUFFIXES, LOADER), **self.loaders}

    def readers_of(self, source: str) -> frozenset[str]:
        """Readers of the document at a path."""
        for rule in self.permissions:
            if matches(rule.match, source):
                return frozenset(rule.readers)
        return frozenset()

    def facts_of(self, source: str) -> Mapping[str, str]:
        """Metadata the spec sets for a path."""
        for rule in self.metadata:
            if matches(rule.match, source):
                return dict(rule.set)
        return {}

    def source(self, name: str) -> Source:
        """One source by its name. Raises: NotFound."""
        for source in self.sources:
            if source.name == name:
                return source
        known = ", ".join(source.name for source in self.sources)
        raise NotFound(f"{self.collection!r} has no source {name!r}", param="source", hint=f"known: {known}")


def read_spec(path: Path) -> SourceSpec:
    """Read ``knowledge/NAME.yaml``; its folders become absolute.

    Raises: InvalidInput: names the field (`param`) at fault. MissingExtra: a kind of source needs a library.
    """
    from interlock.core.yaml_text import YamlFault, read_yaml

    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except YamlFault as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise InvalidInput(f"the source file {path.name!r}{where} cannot be read as YAML", param=path.name) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the source file {path.name!r} cannot be read as text", param=path.name) from error
    return parse_spec(values, base=path.parent, name=path.name)


def parse_spec(values: object, *, base: Path, name: str) -> SourceSpec:
    """Check the content of a source file called `name`; relative folders start at `base`.

    Raises: InvalidInput, MissingExtra.
    """
    if isinstance(values, Mapping) and isinstance(values.get("sources"), Sequence):
        given = cast("Mapping[str, object]", values)
        listed = cast("Sequence[object]", given["sources"])
        if not isinstance(listed, str):
            sources = [_source(one, f"sources.{n}", base, name) for n, one in enumerate(listed)]
            _must_differ(sources, name)
            values = {**given, "sources": tuple(sources)}
    if isinstance(values, Mapping) and values.get("index") is None and values.get("sources") in (None, (), []):
        raise InvalidInput(
            f"{name}: sources: it names at least one source, unless the file names an index that is elsewhere",
            param="sources",
            hint="see docs/how-to/sources.md and docs/how-to/search-an-index-you-have.md",
        )
    spec = _checked(SourceSpec, values, "", name)
    return spec if spec.index is None else spec.model_copy(update={"index": spec.index.based(base)})


def _source(values: object, at: str, base: Path, name: str) -> Source:
    if not isinstance(values, Mapping):
        raise InvalidInput(f"{name}: {at}: it is a mapping of names to values", param=at)
    given = cast("Mapping[str, object]", values)
    kind = given.get("kind", _DEFAULT_KIND)
    if not isinstance(kind, str) or kind not in connectors.names():
        known = ", ".join(connectors.names())
        raise InvalidInput(f"{name}: {at}.kind: no such kind of source; known: {known}", param=f"{at}.kind")
    source = _checked(connectors.get(kind).model, {**given, "kind": kind}, at, name)
    if not source.name:
        key = hashlib.sha256(source.place().encode()).hexdigest()[:8]
        source = source.model_copy(update={"name": f"{kind}-{key}"})
    return source.based(base)


def _must_differ(sources: Sequence[Source], name: str) -> None:
    seen: set[str] = set()
    for number, source in enumerate(sources):
        if source.name in seen:
            at = f"sources.{number}.name"
            raise InvalidInput(
                f"{name}: {at}: two sources are called {source.name!r}", param=at, hint="give one of them a name"
            )
        seen.add(source.name)


_M = TypeVar("_M", bound=BaseModel)


def _checked(model: type[_M], values: object, at: str, name: str) -> _M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = first(error)
        field = ".".join(part for part in (at, *(str(step) for step in fault["loc"])) if part) or "(top level)"
        raise InvalidInput(
            f"{name}: {field}: {told(model, fault)}",
            param=field,
            hint="see docs/how-to/sources.md and docs/how-to/document-permissions.md for the fields",
        ) from error


def absolute(path: str, base: Path) -> str:
    """A path of a source file, starting at the folder of that file."""
    return os.path.normpath(base.absolute() / Path(path).expanduser())
