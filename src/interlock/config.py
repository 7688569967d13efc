"""The workspace and its settings: `interlock.yaml`, then the environment, then flags; each value knows its source.

Environment variables are ``INTERLOCK_`` and the dotted name with ``__`` for dots: ``INTERLOCK_SERVER__PORT=9000``.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from interlock.access.settings import AccessSettings
from interlock.core.errors import Misconfigured, NotFound
from interlock.core.ids import TenantId
from interlock.core.wording import first, told
from interlock.core.yaml_text import YamlFault, read_yaml
from interlock.cost.types import CostSettings
from interlock.gateway.settings import SECRET_STORES, GatewaySettings
from interlock.knowledge.settings import KnowledgeSettings
from interlock.observe.settings import ObserveSettings
from interlock.prompts.settings import PromptSettings
from interlock.releases.settings import ReleaseSettings
from interlock.stores.blob.settings import S3Settings
from interlock.stores.compute.settings import ComputeSettings

__all__ = [
    "FILE",
    "ServerSettings",
    "Settings",
    "StoreSettings",
    "Workspace",
    "find_workspace",
    "load_settings",
    "strange_variables",
]

FILE = "interlock.yaml"
_ADDRESSES = frozenset({"stores.sql", "stores.kv"})
"""Settings that may hold a password, which nobody is shown."""
_log = logging.getLogger("interlock.config")
_OTHERS = frozenset(
    {
        "INTERLOCK_WORKSPACE",
        "INTERLOCK_OFFLINE",
        "INTERLOCK_DEMO_MODEL",
        "INTERLOCK_DATA",
        "INTERLOCK_AZURE_VAULT_URL",
        "INTERLOCK_LLAMA_INDEX_PYTHON",
        "INTERLOCK_TORCH_PYTHON",
    }
)
"""Variables that are no settings; the first is read here, the others where they are used."""


class StoreSettings(BaseModel):
    """Section `stores`. Addresses may use ``{data}`` for the data folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sql: str = Field(default="sqlite:///{data}/control.db", description="sqlite:///… or postgresql://…")
    index: Literal["auto", "sqlite", "postgresql"] = Field(
        default="auto", description="sqlite: files in the data folder; postgresql: pgvector in the sql database"
    )
    index_memory_mb: int = Field(
        default=256,
        ge=0,
        description="sqlite: vectors of collections of 2,000 passages and more that are searched again and again are "
        "kept in memory up to this; 0 keeps none. 50,000 passages of the default model take 77 MB",
    )
    kv: str = Field(
        default="sql",
        pattern=r"^(memory|sql|rediss?://.+|unix:///.+)$",
        description="sql: the processes of one database; redis://…, rediss://… or unix:///…: a Redis or Valkey server; "
        "memory: one process",
    )
    blobs: str = Field(
        default="files",
        pattern=r"^(files|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?)$",
        description="where originals, texts and vectors are kept. files: the data folder; s3://bucket/prefix: an "
        "S3-compatible store",
    )
    s3: S3Settings = S3Settings()
    durable: bool = Field(default=False, description="SQLite: also survive loss of power (one fsync a group commit)")


class ServerSettings(BaseModel):
    """Section `server`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 is every one of this machine")
    port: int = Field(default=8321, ge=0, le=65_535, description="0 takes a free one")
    workers: int = Field(default=1, ge=1, le=64, description="processes that serve the port together")
    hosts: list[str] = Field(
        default_factory=list, description="further names this server answers to (Host header), besides loopback"
    )
    max_body_bytes: int = Field(default=25_000_000, ge=1024, description="largest body of a request, in bytes")
    shutdown_s: float = Field(default=30.0, ge=0, description="how long open streams may finish on shutdown")
    watch: bool = Field(default=False, description="reload the configuration whenever interlock.yaml changes")
    access_log: str | None = Field(
        default=None, description="file that gets one JSON line a request, never content; '-' is standard output"
    )
    secure_cookies: bool = Field(default=False, description="set when the console is reached over https")
    fast_lane: bool = Field(default=True, description="forward plain model calls with a key without a framework")


class Settings(BaseSettings):
    """All settings. Every one has a working default."""

    model_config = SettingsConfigDict(
        env_prefix="INTERLOCK_", env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    tenant: TenantId = Field(
        default=TenantId("default"), min_length=1, max_length=64, description="who owns this installation"
    )
    data_dir: str = Field(default=".interlock", description="folder of everything that Interlock writes")
    models_dir: str | None = Field(default=None, description="folder of model weights, shared by workspaces")
    apps_dir: str = Field(default="apps", description="folder with one folder an app")
    knowledge_dir: str = Field(default="knowledge", description="folder of the sources' files")
    server: ServerSettings = ServerSettings()
    stores: StoreSettings = StoreSettings()
    gateway: GatewaySettings = GatewaySettings()
    access: AccessSettings = AccessSettings()
    cost: CostSettings = CostSettings()
    observe: ObserveSettings = ObserveSettings()
    compute: ComputeSettings = ComputeSettings()
    knowledge: KnowledgeSettings = KnowledgeSettings()
    releases: ReleaseSettings = ReleaseSettings()
    prompts: PromptSettings = PromptSettings()

    @classmethod
    def settings_customise_sources(  # the layers are merged by `load_settings`, which also keeps where each came from
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in."""
        return (init_settings,)


class Origin(NamedTuple):
    """One setting, as `interlock config show` prints it."""

    name: str
    value: object
    source: str
    """``default``, ``interlock.yaml``, ``environment`` or ``flag``."""


class Workspace(NamedTuple):
    """A workspace folder and its settings."""

    root: Path
    settings: Settings
    sources: Mapping[str, str]
    """Dotted name of each value that is not a default, to where it came from."""

    @property
    def data(self) -> Path:
        """Folder of everything Interlock writes."""
        return self.root / self.settings.data_dir

    def path(self, relative: str) -> Path:
        """A path of the workspace."""
        return self.root / relative

    def origins(self) -> Iterator[Origin]:
        """Every setting with its source, by dotted name."""
        for name, value in _flatten(self.settings.model_dump(mode="json")):
            if name in _ADDRESSES:
                value = _without_password(str(value))
            source = next((self.sources[known] for known in _prefixes(name) if known in self.sources), "default")
            yield Origin(name, value, source)


def find_workspace(start: Path | None = None) -> Path:
    """The folder with `interlock.yaml`: ``INTERLOCK_WORKSPACE``, else `start` or the nearest folder above it.

    Raises: NotFound.
    """
    named = os.environ.get("INTERLOCK_WORKSPACE")
    if start is None and named:
        start = Path(named)
        if not (start / FILE).is_file():
            raise NotFound(f"INTERLOCK_WORKSPACE names a folder without {FILE}", hint="interlock init DIR")
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder
    raise NotFound(
        f"no workspace here: there is no {FILE} in {str(here)!r} or above it",
        hint="make one with: interlock init DIR, or name one with: interlock --workspace DIR",
    )


# Any: settings before validation are whatever YAML and the environment hold.
def load_settings(root: Path, flags: Mapping[str, Any] | None = None, *, text: str | None = None) -> Workspace:
    """Read, merge and validate the settings of a workspace.

    Args:
        root: folder of `interlock.yaml`.
        flags: nested overrides, strongest.
        text: stands in for what is in `interlock.yaml`.

    Raises: Misconfigured: names the setting and the source at fault.
    """
    layers = (
        (FILE, _read_yaml(root / FILE, text)),
        ("environment", _read_environment()),
        ("flag", dict(flags or {})),
    )
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        _merge(merged, layer)
        for name, _ in _flatten(layer):
            sources[name] = source
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        fault = first(error)
        name = ".".join(str(step) for step in fault["loc"])
        where = next((sources[known] for known in _prefixes(name) if known in sources), None) or next(
            (source for known, source in sources.items() if known.startswith(f"{name}.")), FILE
        )
        raise Misconfigured(
            f"the setting {name!r} from {where} is wrong: {told(Settings, fault)}",
            param=name,
            hint="see all settings with: interlock config show",
        ) from error
    workspace = Workspace(root, settings, sources)
    for strange in strange_variables(workspace, os.environ):
        _log.warning("%s", strange.message)
    return workspace


def _read_yaml(path: Path, text: str | None) -> dict[str, Any]:
    try:
        raw = read_yaml(path.read_text("utf-8") if text is None else text)
    except OSError as error:
        raise Misconfigured(f"{path.name} cannot be read: {error.strerror}") from error
    except (YamlFault, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        # Words of ours, and of the calendar: "day is out of range for month".
        why = f": {error}" if isinstance(error, YamlFault) and mark is None else ""
        raise Misconfigured(f"{path.name} is not YAML{where}{why}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise Misconfigured(f"{path.name} must hold a mapping of settings")
    for key in raw:
        if not isinstance(key, str):
            raise Misconfigured(f"{path.name} has the key {key!r}, and settings have names", param=str(key))
    return raw


class Strange(NamedTuple):
    """An ``INTERLOCK_`` variable that means nothing."""

    name: str
    nearest: str
    """The variable that was probably meant; empty when none is near."""

    @property
    def message(self) -> str:
        """For people. Never the value, which may be a secret."""
        said = f"the environment variable {self.name} is no setting and has no effect"
        return f"{said}; did you mean {self.nearest}?" if self.nearest else said


def strange_variables(workspace: Workspace, environ: Mapping[str, str]) -> list[Strange]:
    """``INTERLOCK_`` variables that no setting reads, by name.

    Unknown names inside a section (``INTERLOCK_SERVER__PROT``) are refused when settings are read; these are the ones
    that would pass in silence (``INTERLOCK_SERVER_PORT``).
    """
    sections = set(Settings.model_fields)
    dumped = workspace.settings.model_dump(mode="json")
    known = {f"INTERLOCK_{name.replace('.', '__').upper()}" for name, _ in _flatten(dumped)} | _OTHERS
    # A setting may name any variable to read a secret from.
    named = {value for _, value in _flatten(dumped) if isinstance(value, str)}
    found = []
    for name in sorted(environ):
        section = name.upper().removeprefix("INTERLOCK_").partition("__")[0].lower()
        if not name.upper().startswith("INTERLOCK_") or section in sections or name in _OTHERS or name in named:
            continue
        near = difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.75)
        found.append(Strange(name, near[0] if near else ""))
    return found


def _read_environment() -> dict[str, Any]:
    try:
        return EnvSettingsSource(Settings)()
    except Exception as error:
        raise Misconfigured(f"an INTERLOCK_ environment variable cannot be read: {error}") from error


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif isinstance(value, Mapping):
            into[key] = {}
            _merge(into[key], value)
        else:
            into[key] = value


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flatten(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


_SECRET_NAMES = re.compile(r"(headers\.|password|secret|token$|authorization)", re.IGNORECASE)
_REFERENCE = re.compile(rf"(?:{'|'.join(SECRET_STORES)}):\S+")
_USERINFO = re.compile(r"(://)([^/?#@\s]*)@")
_QUERY = re.compile(r"([?&][^=&#\s]+=)[^&#\s]+")
HIDDEN = "•••"


def shown_value(name: str, value: object) -> object:
    """The value of the setting `name` as people may see it.

    What is named like a secret is covered, unless it says only where the secret is; so are the user, password and query
    of an address.
    """
    if isinstance(value, list):
        return [shown_value(name, item) for item in value]
    if not isinstance(value, str) or not value:
        return value
    if _REFERENCE.fullmatch(value):
        return value
    if _SECRET_NAMES.search(name):
        return HIDDEN
    if "://" not in value:
        return value
    value = _USERINFO.sub(lambda found: f"://{_user(found[2])}{HIDDEN}@", value)
    return value if name in _ADDRESSES else _QUERY.sub(rf"\1{HIDDEN}", value)


def _user(userinfo: str) -> str:
    # A user without a password is often a token.
    user, _, password = userinfo.partition(":")
    return f"{user}:" if password else ""


def _without_password(address: str) -> str:
    return re.sub(
        r"(://[^/?#@]*?:)[^/?#]*@|(password=)[^&#]*",
        lambda m: f"{m[1]}{HIDDEN}@" if m[1] else f"{m[2]}{HIDDEN}",
        address,
    )


def _prefixes(name: str) -> Iterator[str]:
    steps = name.split(".")
    for end in range(len(steps), 0, -1):
        yield ".".join(steps[:end])
