"""The conformance suite of checkers: derive it for a plug-in of your own (async tests need anyio's pytest plug-in).

class TestMine(CheckerConformance):
    def checker(self, folder):
        return plugin.open("", models=folder, threads=1)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from interlock.core.messages import ChatRequest
from interlock.knowledge.ports import Checker
from interlock.knowledge.types import SupportCase

__all__ = ["CheckerConformance"]

_TEXT = (
    "A return number is valid for 21 days.",
    "After that the customer asks for a new one.",
    "The restocking fee is 10 percent of the price.",
)


class CheckerConformance(ABC):
    """What every checker promises. `reply` is what its model says, for checkers that ask one."""

    reply: ClassVar[str | None] = None

    @abstractmethod
    def checker(self, folder: Path) -> Checker:
        """The checker under test; `folder` is an empty folder of models, to be filled as needed."""

    async def _ask(self, request: ChatRequest) -> str | None:
        assert request.messages, "a question to the model has messages"
        return self.reply

    async def test_one_score_a_case_in_order_each_a_probability(self, tmp_path: Path) -> None:
        """Scores match cases, and lie in [0, 1]."""
        checker = self.checker(tmp_path)
        cases = [SupportCase(text, _TEXT, number, "Returns") for number, text in enumerate(_TEXT)]
        scores = await checker.check(cases, self._ask)
        assert len(scores) == len(cases)
        assert all(0 <= score.probability <= 1 for score in scores)
        assert all(score.reason == score.reason.lower() and score.reason for score in scores)

    async def test_what_the_text_says_is_supported(self, tmp_path: Path) -> None:
        """A sentence of the passage itself reaches the threshold."""
        checker = self.checker(tmp_path)
        (score,) = await checker.check([SupportCase(_TEXT[0], _TEXT, 0, "Returns")], self._ask)
        assert score.probability >= checker.threshold
        assert score.reason == "ok"

    async def test_the_same_case_gets_the_same_score(self, tmp_path: Path) -> None:
        """Nothing is drawn by chance, and no case leaks into another."""
        checker = self.checker(tmp_path)
        case = SupportCase("The number lasts three weeks.", _TEXT, 0)
        alone = await checker.check([case], self._ask)
        again = await checker.check([SupportCase("Fees are high.", _TEXT, 2), case], self._ask)
        assert alone[0] == again[1]

    async def test_nothing_to_check_gives_nothing(self, tmp_path: Path) -> None:
        """No cases, no scores, no model."""
        assert list(await self.checker(tmp_path).check([], self._ask)) == []

    def test_its_identity_is_stable_and_says_its_kind(self, tmp_path: Path) -> None:
        """A release pins it."""
        first, second = self.checker(tmp_path), self.checker(tmp_path)
        assert first.id == second.id
        assert 0 < len(first.id) < 400
        assert 0 <= first.threshold <= 1
