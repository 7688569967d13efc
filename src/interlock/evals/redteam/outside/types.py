"""A tool: how it is installed, how it is called, and what its own report says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from interlock.stats.intervals import Interval

__all__ = ["Call", "OutsideReport", "Place", "Row", "Tool", "Verdict"]

Verdict = Literal["pass", "fail", "not_enough_evidence"]


class Place(NamedTuple):
    """Where a tool's run looks."""

    address: str
    """Of our OpenAI-compatible API, with ``/v1``."""
    model: str
    """``app/NAME``, ``app/NAME@CHANNEL``, ``route/NAME``."""
    folder: Path
    """Of this run, for whatever the tool writes."""


class Call(NamedTuple):
    """A command."""

    arguments: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """What a tool found with one kind of attack."""

    name: str
    tried: int
    worked: int
    useful: int | None = None
    """Tasks of the user that were done all the same, where the tool looks at that."""
    failed: int = 0
    """Attempts without an answer; in neither of the others."""


@dataclass(frozen=True, slots=True)
class OutsideReport:
    """A run of a tool."""

    id: str
    tool: str
    version: str
    target: str
    release: str
    """That answered; empty where it is none, or where it was another at the end than at the beginning."""
    options: tuple[str, ...]
    began_at: datetime
    ended_at: datetime
    rows: tuple[Row, ...]
    tried: int
    worked: int
    success: Interval | None
    """95 %, Wilson; attempts are taken as independent, though several are of one kind."""
    most_success: float | None
    verdict: Verdict | None
    """None without a gate."""


class Tool(Protocol):
    """One tool: one file, one of these as its `plugin`. Knows nothing of processes: it says what is to be called."""

    about: str
    version: str
    """That is installed, and whose report is read."""
    executable: str
    """Below its folder; there once it is installed."""

    def install(self, home: Path) -> Sequence[Call]:
        """Commands that install it below `home`."""

    def attack(self, home: Path, place: Place, options: Sequence[str]) -> Call:
        """The command that attacks, writing below `place.folder`; may write configuration there first.

        Args:
            options: in the tool's own words, after the defaults.

        Raises: InvalidInput: an option is missing or wrong.
        """

    def read(self, folder: Path) -> Sequence[Row]:
        """What it found. Raises: InvalidInput: its report is missing, or of another form."""
