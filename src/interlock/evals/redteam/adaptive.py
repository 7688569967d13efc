"""A target whose attacks are chosen by a model as they go on; cases that name no strategy are asked as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interlock.core.errors import InvalidInput
from interlock.evals.ports import AskJudge, Target
from interlock.evals.redteam.signals import seen
from interlock.evals.redteam.strategies import strategies
from interlock.evals.redteam.strategies._talk import Silent, Spent, Talk
from interlock.evals.redteam.types import Signal
from interlock.evals.types import UNTRIED, Case, Output, Turn

__all__ = ["AdaptiveTarget"]


class _Plan(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    objective: str = Field(min_length=1, max_length=4000)
    turns: int = Field(default=6, ge=1, le=50)


class _Signals(BaseModel):
    signals: list[Signal] = Field(min_length=1)


class AdaptiveTarget:
    """Wraps a target.

    Args:
        target: what is attacked.
        attacker: the model that attacks.
        protected: the target's own instructions, for signals that compare with them.
    """

    def __init__(self, target: Target, attacker: AskJudge, protected: Sequence[str] = ()) -> None:
        self.inner = target
        self._attacker = attacker
        self._protected = protected

    @property
    def name(self) -> str:
        """See `Target`."""
        return self.inner.name

    @property
    def identity(self) -> Mapping[str, object]:
        """Empty: another conversation comes about each time, so no answer is kept for a later run."""
        return {}

    @property
    def release_id(self) -> str:
        """See `Target`."""
        return self.inner.release_id

    async def run(self, case: Case, repeat: int) -> Output:
        """See `Target`. Gives the answer that worked, else the last one, with its conversation and what all cost.

        Where the attacker says nothing that could be sent, nothing was tried: that is an error, neither a defence nor a
        failure of the target.
        """
        if "strategy" not in case.metadata:
            return await self.inner.run(case, repeat)
        try:
            plan = _Plan.model_validate(case.metadata["strategy"])
            signals = _Signals.model_validate(case.metrics.get("attack_success", {})).signals
        except ValidationError as error:
            field = ".".join(map(str, error.errors(include_url=False, include_input=False)[0]["loc"]))
            raise InvalidInput(
                f"case {case.id!r}: {field} of its strategy is wrong", param="metadata.strategy"
            ) from error
        before = [] if isinstance(case.input, str) else [turn for turn in case.input if turn.role == "system"]

        async def send(turns: tuple[Turn, ...]) -> Output:
            return await self.inner.run(case.model_copy(update={"input": [*before, *turns]}), repeat)

        def worked(output: Output) -> bool:
            return not output.error and seen(signals, output, self._protected) is not None

        talk = Talk(plan.objective, plan.turns, self._attacker, send, worked)
        try:
            await strategies.get(plan.name)(talk)
        except (Spent, Silent):
            if not talk.outputs:
                return Output(error=UNTRIED, cost_nano=talk.attacker_cost_nano or None)
        return _summed(talk, before, worked=worked(talk.outputs[-1]))

    async def close(self) -> None:
        """See `Target`."""
        await self.inner.close()


def _summed(talk: Talk, before: Sequence[Turn], *, worked: bool) -> Output:
    last = talk.outputs[-1]
    if not worked:
        # A target that failed at the end of a talk has answered before it.
        last = next((each for each in reversed(talk.outputs) if not each.error), last)
    known = [each.cost_nano for each in talk.outputs if each.cost_nano is not None]
    times = [each.latency_s for each in talk.outputs if each.latency_s is not None]
    conversation = [turn.model_dump(mode="json") for turn in (*before, *talk.conversation)]
    return replace(
        last,
        state={"conversation": conversation, "asked": talk.asked},
        # What is known of it: a budget is to stop an attacker also where the target tells no cost.
        cost_nano=sum(known) + talk.attacker_cost_nano if known or talk.attacker_cost_nano else None,
        latency_s=sum(times) if times else None,
        documents=tuple(dict.fromkeys(name for each in talk.outputs for name in each.documents)),
    )
