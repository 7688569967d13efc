"""Limit rules: who and what they apply to, what they count, over which time.

One rule may count requests, tokens and money at once. A rule over a `window` slides (requests a minute); one over a
`period` follows the calendar of its time zone (a budget a month).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from interlock.core.ids import TenantId
from interlock.core.money import Money

__all__ = ["MOST_UNITS", "LimitRule", "Match", "Measure", "Slot", "Subject", "window_seconds"]

Measure = Literal["requests", "tokens", "money"]
Period = Literal["hour", "day", "week", "month", "total"]
SPAN = 11
"""Slots that a sliding window adds up: ten of a tenth of the window each, and the part of one more that the window's
start may still touch. Counting that one whole errs on the side of refusing."""
_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SCOPES = ("tenant", "key", "user", "app", "provider", "model")
MOST_UNITS = 1 << 60
"""Of a limit: databases count in 64 bits, and what was used may pass it."""
_KEEP_PERIOD_S = 400 * 86_400.0


def window_seconds(text: str) -> int:
    """``60s``, ``10m``, ``1h``, ``1d`` in seconds. Raises: ValueError."""
    found = _DURATION.fullmatch(text.strip())
    seconds = int(found[1]) * _UNIT_S[found[2]] if found else 0
    if not 1 <= seconds <= 7 * 86_400:
        raise ValueError("a window is written like 60s, 10m, 1h or 1d, at most 7d")
    return seconds


class Subject(msgspec.Struct, frozen=True):
    """What rules are matched against: the caller of one request, and the target it is about to be sent to."""

    tenant: TenantId
    key: str
    """The calling key's id, or the principal's when there is none."""
    user: str = ""
    groups: frozenset[str] = frozenset()
    app: str = ""
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    provider: str = ""
    model: str = ""

    def value(self, scope: str) -> str:
        """Value of one scope name; a caller without one (no end user, no such tag) shares the empty value."""
        match scope:
            case "tenant":
                return self.tenant
            case "key":
                return self.key
            case "user":
                return self.user
            case "app":
                return self.app
            case "provider":
                return self.provider
            case "model":
                return f"{self.provider}/{self.model}"
        return self.tags.get(scope.removeprefix("tag:"), "")


class Match(BaseModel):
    """Which calls a rule is about; everything that is given must hold. Names may use ``*``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    key: str | None = Field(default=None, description="id of an API key")
    user: str | None = Field(default=None, description="a proven end user")
    group: str | None = Field(default=None, description="a group of the proven end user")
    app: str | None = Field(default=None, description="only calls of this app")
    provider: str | None = Field(default=None, description="only calls to this provider")
    model: str | None = Field(default=None, description="'provider/model'")
    tags: dict[str, str] = Field(default_factory=dict, description="labels that the caller sends as metadata")

    def holds(self, subject: Subject) -> bool:
        """True when the rule is about this call."""
        pairs = (
            (self.key, subject.key),
            (self.user, subject.user),
            (self.app, subject.app),
            (self.provider, subject.provider),
            (self.model, f"{subject.provider}/{subject.model}"),
        )
        return (
            all(wanted is None or fnmatch.fnmatchcase(given, wanted) for wanted, given in pairs)
            and (self.group is None or self.group in subject.groups)
            and all(fnmatch.fnmatchcase(subject.tags.get(name, ""), wanted) for name, wanted in self.tags.items())
        )

    @property
    def by_target(self) -> bool:
        """True when the answer depends on the target."""
        return self.provider is not None or self.model is not None


class Slot(NamedTuple):
    """Where in time a unit is counted."""

    number: int
    ttl_s: float | None
    """How long its counter is kept."""
    ends_at: float
    """Unix seconds at which the next slot begins."""


class LimitRule(BaseModel):
    """One limit or budget."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$", description="for people, errors and metrics")
    match: Match = Match()
    per: tuple[str, ...] = Field(
        default=(),
        description="a counter for each value of: tenant, key, user, app, provider, model, tag:NAME; empty pools all",
    )
    requests: int | None = Field(default=None, ge=0, le=MOST_UNITS, description="calls at most")
    tokens: int | None = Field(default=None, ge=0, le=MOST_UNITS, description="input and output tokens at most")
    money: str | None = Field(default=None, pattern=r"^\d{1,9}(\.\d{1,9})?$", description="US dollars")
    window: str | None = Field(default=None, description="sliding: 60s, 10m, 1h, 1d")
    period: Period | None = Field(default=None, description="calendar: hour, day, week, month, or total for ever")
    timezone: str = Field(default="UTC", description="of the calendar period, as Europe/Amsterdam")
    mode: Literal["hard", "soft"] = Field(default="hard", description="hard stops the call, soft only warns")
    warn_at: float = Field(default=0.8, gt=0, le=1, description="share of the limit at which it warns")
    unpriced: Literal["refuse", "allow"] = Field(
        default="refuse", description="what a money limit does with a model that has no price"
    )

    @field_validator("per")
    @classmethod
    def _known_scopes(cls, per: tuple[str, ...]) -> tuple[str, ...]:
        for scope in per:
            if scope not in _SCOPES and not re.fullmatch(r"tag:[A-Za-z0-9_.-]{1,64}", scope):
                raise ValueError(f"{scope!r} is none of {', '.join(_SCOPES)}, tag:NAME")
        return per

    @field_validator("window")
    @classmethod
    def _readable_window(cls, window: str | None) -> str | None:
        if window is not None:
            window_seconds(window)
        return window

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("no time zone of this name") from error
        return name

    @model_validator(mode="after")
    def _whole(self) -> LimitRule:
        if (self.window is None) == (self.period is None):
            raise ValueError("a rule has either a window or a period")
        if not self.measures:
            raise ValueError("a rule limits at least one of requests, tokens, money")
        return self

    @property
    def measures(self) -> Mapping[Measure, int]:
        """What is counted, and the limit of each in its unit (money in nano-dollars)."""
        found: dict[Measure, int] = {}
        if self.requests is not None:
            found["requests"] = self.requests
        if self.tokens is not None:
            found["tokens"] = self.tokens
        if self.money is not None:
            found["money"] = Money.of(self.money).nano
        return found

    @property
    def by_target(self) -> bool:
        """True when which counter is meant depends on the target of a try."""
        return self.match.by_target or "provider" in self.per or "model" in self.per

    @property
    def span(self) -> int:
        """Slots that count together."""
        return SPAN if self.window is not None else 1

    @property
    def slot_s(self) -> float:
        """Length of a slot of a sliding window in seconds."""
        assert self.window is not None, "calendar periods have no fixed length"
        return window_seconds(self.window) / (SPAN - 1)

    def reset_s(self, at: float) -> float | None:
        """Seconds until nothing that was used by now counts any more; None: never."""
        if self.window is not None:
            return (self.slot(at).number + SPAN) * self.slot_s - at
        ends_at = self.slot(at).ends_at
        return None if ends_at == float("inf") else ends_at - at

    def scope(self, subject: Subject) -> str:
        """Name of the counter among those of this rule: escaped values of `per`, in order."""
        return "|".join(subject.value(name).replace("%", "%25").replace("|", "%7C") for name in self.per)

    def slot(self, at: float) -> Slot:
        """The slot of a Unix time in seconds."""
        if self.window is not None:
            length = self.slot_s
            number = int(at // length)
            return Slot(number, length * (SPAN + 1), (number + 1) * length)
        if self.period == "total":
            return Slot(0, None, float("inf"))
        return _calendar_slot(self.period or "day", ZoneInfo(self.timezone), at)


def _calendar_slot(period: str, zone: ZoneInfo, at: float) -> Slot:
    local = datetime.fromtimestamp(at, UTC).astimezone(zone)
    start = local.replace(minute=0, second=0, microsecond=0)
    if period == "hour":
        # Hours are counted in absolute time: a clock that goes back repeats none.
        number = int(at // 3600)
        return Slot(number, _KEEP_PERIOD_S, (number + 1) * 3600.0)
    day = start.replace(hour=0)
    if period == "day":
        first, following = day, day + timedelta(days=1)
    elif period == "week":
        first = day - timedelta(days=day.weekday())
        following = first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        following = (first + timedelta(days=32)).replace(day=1)
    return Slot(first.toordinal(), _KEEP_PERIOD_S, following.timestamp())
