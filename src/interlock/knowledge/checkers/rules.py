"""No second opinion: only what passes the strict check of `grounding/support.py`, a near-copy, counts as supported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anyio import to_thread

from interlock.core.errors import Misconfigured
from interlock.knowledge.grounding.support import check
from interlock.knowledge.ports import AskModel, Checker
from interlock.knowledge.types import SupportCase, SupportScore

__all__ = ["RulesChecker", "plugin"]


class RulesChecker:
    """About 0.1 ms a sentence of the passage; no model, no state."""

    id = "rules"
    threshold = 0.5

    async def check(self, cases: Sequence[SupportCase], ask: AskModel | None = None) -> list[SupportScore]:
        """See `Checker`: the score of the sentence that the claim copies best."""
        return await to_thread.run_sync(lambda: [_judged(case) for case in cases])


def _judged(case: SupportCase) -> SupportScore:
    verdicts = [check(case.claim, sentence, context=case.heading) for sentence in case.sentences]
    best = max(verdicts, key=lambda verdict: (verdict.supported, verdict.score))
    return SupportScore(best.score, "ok" if best.supported else verdicts[case.nearest].reason)


class _Plugin:
    needs_model = False

    def open(self, name: str, *, models: Path, threads: int) -> Checker:
        if name:
            raise Misconfigured("the checker 'rules' has no models to choose from", param="answer.checker.model")
        return RulesChecker()


plugin = _Plugin()
