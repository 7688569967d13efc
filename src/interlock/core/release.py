"""A release as the parts see it: named components, one digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from interlock.core.ids import AppName, ReleaseId

__all__ = ["Assignment", "ChannelMode", "Copied", "Release"]

ChannelMode = Literal["live", "frozen"]


class Copied(NamedTuple):
    """Which requests are answered by a second release too, unseen."""

    release: ReleaseId
    share: float
    """Of the requests, in (0, 1]."""
    concurrency: int
    """Copies at once, in each worker."""
    max_per_hour: int
    """In each worker."""


class Assignment(NamedTuple):
    """Why a caller is served by one of several releases."""

    rollout: str
    """The rollout, or the experiment."""
    arm: str
    """`control` or `candidate` of a rollout, `shadow` of a copy, whose answer nobody gets; the arm of an experiment."""
    unit: str
    """Keyed hash of what was assigned (a person, a conversation, a key): the same in every request of it."""
    shadow: Copied | None = None
    """Who answers unseen besides."""
    interleaved: ReleaseId | None = None
    """Whose search finds passages besides, for the same answer."""


@dataclass(frozen=True, slots=True)
class Release:
    """Everything that decides an app's behaviour, resolved for one request."""

    id: ReleaseId
    app: AppName
    channel: str
    mode: ChannelMode
    """``live`` when it was read from the workspace's files just now, ``frozen`` when it was built and stored."""
    components: Mapping[str, Mapping[str, object]]
    """Kind (`prompt`, `route`, `retrieval` …) to its canonical JSON value; each part reads its own."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Kind to ``sha256:`` of its component; the manifest whose digest is `id`."""
    assignment: Assignment | None = None
    """The rollout or experiment that chose it for this caller; None without one."""

    @property
    def short(self) -> str:
        """`rel_` and the first 8 hex digits, for people."""
        return "rel_" + self.id.removeprefix("sha256:")[:8]
