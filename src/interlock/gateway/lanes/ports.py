"""What a provider's own batch API is to us: lines go in as one piece, and hours later their answers come out.

Every step can be repeated: who takes over from a worker that died finds what was uploaded and what was created by a
label of ours, or by the names of the lines.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.core.messages import ChatEvent, ChatRequest

__all__ = [
    "BatchLane",
    "HasLane",
    "LaneLine",
    "LaneResult",
    "LaneTerms",
    "Remote",
    "Standing",
    "custom_id",
    "number_of",
]

# Any in this module: JSON of a foreign service.


@dataclass(frozen=True, slots=True)
class LaneTerms:
    """What a provider says about its batch API."""

    discount: str = "0.5"
    """Part of the ordinary price that it takes off."""
    window_s: float = 86_400.0
    """Within which it answers or gives up."""
    max_lines: int = 50_000
    max_bytes: int = 40_000_000
    """Of one batch; never more than fits in memory here, whatever the provider takes."""


class LaneLine(NamedTuple):
    """One request in the provider's own words."""

    number: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Remote:
    """What exists at the provider."""

    batch: str = ""
    input: str = ""
    outputs: tuple[str, ...] = ()
    """Files that its answers are in."""

    def stored(self) -> dict[str, Any]:
        """As JSON; `read` gives it back."""
        return {"batch": self.batch, "input": self.input, "outputs": list(self.outputs)}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Remote:
        """What `stored` wrote."""
        return cls(stored["batch"], stored["input"], tuple(stored["outputs"]))


class Standing(NamedTuple):
    """How far a batch is. `failed`: the provider took none of it."""

    state: Literal["working", "ended", "failed"]
    remote: Remote
    reason: str = ""
    """A machine's word, never a sentence: sentences may quote the prompt."""


class LaneResult(NamedTuple):
    """What became of one line."""

    number: int
    body: Mapping[str, Any] | None
    """The answer; None when there is none."""
    error: InterlockError | None = None
    undone: Literal["", "expired", "cancelled"] = ""
    """Why the provider did not begin it."""


class BatchLane(Protocol):
    """One provider's batch API. Calls are bounded by their caller."""

    terms: LaneTerms

    def encode(self, request: ChatRequest, model: str) -> Mapping[str, Any]:
        """A request for this API. Raises: InvalidInput: what it asks for cannot be asked here."""

    def events(self, request: ChatRequest, model: str, body: Mapping[str, Any]) -> AsyncGenerator[ChatEvent, None]:
        """The answer `body` to `request`, ending with a Finish. Raises: ProviderError and its kin."""

    async def upload(self, ctx: Context, key: str, lines: Sequence[LaneLine], model: str) -> Remote:
        """Bring the lines there, under the label `key`; an empty Remote where `create` takes them itself."""

    async def find_upload(self, ctx: Context, key: str) -> Remote | None:
        """What an earlier `upload` under `key` made."""

    async def create(self, ctx: Context, key: str, remote: Remote, lines: Sequence[LaneLine], model: str) -> Standing:
        """Begin. Raises: ProviderError and its kin: it was refused, or nobody knows."""

    async def find(self, ctx: Context, key: str, lines: int) -> Standing | None:
        """The batch that an earlier `create` of so many lines under `key` made.

        Raises: Unavailable (`provider_batch_unknown`): that cannot be told yet.
        """

    async def look(self, ctx: Context, remote: Remote) -> Standing:
        """How far it is."""

    def results(self, ctx: Context, key: str, remote: Remote, most: int) -> AsyncGenerator[LaneResult, None]:
        """Answers of a batch that has ended, in any order. Lines that are not ours are left out.

        Args:
            most: rows that are read at most; a server that sends more is not listened to.
        """

    async def cancel(self, ctx: Context, remote: Remote) -> None:
        """Ask the provider to stop; what it has begun may still be answered."""

    async def remove(self, ctx: Context, remote: Remote) -> None:
        """Delete what is left of it there. What is gone already is no error."""


@runtime_checkable
class HasLane(Protocol):
    """A provider that may have a batch API."""

    def lane(self) -> BatchLane | None:
        """Its batch API; None when it has none or is set not to use it."""


def custom_id(key: str, number: int) -> str:
    """How a line is named there: nothing of the caller's."""
    return f"{key}-{number}"


def number_of(key: str, given: object) -> int | None:
    """The line behind a name; None when it is none of ours."""
    if not isinstance(given, str):
        return None
    before, _, number = given.rpartition("-")
    return int(number) if before == key and number.isascii() and number.isdecimal() and len(number) < 8 else None
