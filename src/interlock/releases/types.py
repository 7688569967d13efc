"""What this part talks about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from interlock.core.ids import AppName, ReleaseId, TenantId
from interlock.releases.flags.types import FlagSpec
from interlock.releases.promotion import PromotionPolicy
from interlock.releases.rollouts.types import RolloutSpec

__all__ = [
    "FROZEN_CHANNELS",
    "LIVE_CHANNEL",
    "AppSource",
    "Channel",
    "Components",
    "Damage",
    "Move",
    "ReleaseInfo",
    "Retired",
]

LIVE_CHANNEL = "dev"
"""The channel that follows the workspace's files."""
FROZEN_CHANNELS = ("stage", "prod")

Components = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class AppSource:
    """An app of the workspace: where its components come from."""

    name: AppName
    description: str
    load: Callable[[], Components]
    """Read and validate the files now. Raises InvalidInput naming file and field."""
    vary: Callable[[Mapping[str, Any]], Components] | None = None  # Any: JSON values
    """The components with part of the app's file written otherwise: mappings are merged, a key that is given as None
    is left out. Raises InvalidInput naming the field. None: the app does not come from a file."""
    default_channel: str = LIVE_CHANNEL
    policies: Callable[[], Mapping[str, PromotionPolicy]] = dict
    """What the app's own file asks of a release, by channel; what the workspace asks holds besides."""
    rollout: Callable[[], RolloutSpec] = RolloutSpec
    """How the app's file says that its rollouts go."""
    lint: Callable[[], Mapping[str, Literal["off", "warn", "error"]]] = dict
    """What the app's file says that findings of rules for prompts count as."""
    folder: Path | None = None
    """Where its files are; None: it does not come from files."""
    flags: Callable[[], Mapping[str, FlagSpec]] = dict
    """What the app's code may ask for by name, as the file says now. Raises InvalidInput."""
    tenants: Callable[[], frozenset[TenantId] | None] = lambda: None
    """Which tenants have it; None is all. Asked at every use, since a right that was taken must not last until a
    restart. Raises InvalidInput when it cannot be known."""


@dataclass(frozen=True, slots=True)
class Retired:
    """Why no channel may be pointed at a release any more."""

    at: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseInfo:
    """One frozen release."""

    id: ReleaseId
    app: AppName
    components: Mapping[str, str]
    """Kind to digest."""
    created_at: datetime
    created_by: str
    note: str = ""
    retired: Retired | None = None


@dataclass(frozen=True, slots=True)
class Channel:
    """A pointer."""

    app: AppName
    name: str
    release: ReleaseId
    moved_at: datetime
    moved_by: str


@dataclass(frozen=True, slots=True)
class Move:
    """A channel was pointed at a release."""

    channel: str
    release: ReleaseId
    at: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing of a stored release that is not what it was."""

    what: str
    """`manifest`, a component's kind, or ``report NAME`` of its evidence."""
    digest: str
    why: Literal["missing", "changed", "not as recorded"]
