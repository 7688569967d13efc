"""Equal calls at the same time share one provider call.

The first caller leads and streams as always; the others wait for its whole answer and then get it as kept answers are
given. Nobody depends on the leader: when it fails, is cut off by its own limits, or its client leaves, those who wait
ask for themselves, and the first of them leads the rest. Flights are of one worker; the leaders of several workers find
each other in the store (`AnswerCache`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal, NamedTuple

from interlock.core.messages import ChatEvent

__all__ = ["Flight", "Flights", "Landing"]


class Landing(NamedTuple):
    """How a flight ended for those who waited."""

    kind: Literal["landed", "lost", "alone", "late"]
    """`lost`: its leader failed or left; `alone`: its answer may not be shared; `late`: the wait was too long."""
    events: tuple[ChatEvent, ...] = ()
    target: str = ""


class Flight:
    """One call under way."""

    def __init__(self, flights: Flights, key: str) -> None:
        self._flights = flights
        self._key = key
        self._landed: asyncio.Future[Landing] = asyncio.get_running_loop().create_future()

    def landed(self, events: Sequence[ChatEvent], target: str) -> None:
        """The leader has a whole answer that others may be given."""
        self._end(Landing("landed", tuple(events), target))

    def alone(self) -> None:
        """The leader's answer is its own: those who wait ask for themselves, all at once."""
        self._end(Landing("alone"))

    def lost(self) -> None:
        """There is no answer. Does nothing after another end."""
        self._end(Landing("lost"))

    def _end(self, landing: Landing) -> None:
        if self._flights.open.get(self._key) is self:
            del self._flights.open[self._key]
        if not self._landed.done():
            self._landed.set_result(landing)

    async def wait(self, seconds: float) -> Landing:
        """How it ended, or that it did not within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                # Shielded: a follower that leaves must not cancel what others wait for.
                return await asyncio.shield(self._landed)
        except TimeoutError:
            return Landing("late")


class Flights:
    """Calls under way in this worker, by key."""

    def __init__(self) -> None:
        self.open: dict[str, Flight] = {}

    def lead(self, key: str) -> Flight:
        """Begin a flight; whoever gets it lands or loses it on every exit."""
        flight = self.open[key] = Flight(self, key)
        return flight

    def find(self, key: str) -> Flight | None:
        """The flight of an equal call, if there is one."""
        return self.open.get(key)
