"""What cleaning needs from elsewhere; `app.py` and the flows fill it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from interlock.core.context import Context
from interlock.knowledge.cleaning.settings import ContextSettings
from interlock.knowledge.cleaning.types import Concern

__all__ = ["ContextWriter", "Scanner", "Seen"]


class Seen(NamedTuple):
    """One value or phrase in a text."""

    start: int
    end: int
    label: str


class Scanner(Protocol):
    """Looks for personal data, secrets and instructions in text."""

    @property
    def version(self) -> str:
        """Changes when the same text would be judged otherwise: documents are then looked at again."""

    def scan(self, text: str, concern: Concern) -> Sequence[Seen]:
        """What is in `text`, by start; may overlap. CPU only, linear in the length of the text."""


class ContextWriter(Protocol):
    """Has a model write where in its document a passage stands. One a run: it keeps the run's budget."""

    async def write(
        self, ctx: Context, settings: ContextSettings, *, title: str, heading: str, before: str, passage: str
    ) -> str | None:
        """One or two sentences; None when the budget is spent or the model cannot be had. Network.

        Args:
            ctx: who pays.
            settings: which model, how long, how much.
            title: of the document.
            heading: above the passage.
            before: how the document begins.
            passage: its text.
        """
