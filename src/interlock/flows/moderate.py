"""Say whether texts are harmful: by a provider, or by our own detectors as the model `interlock/guardrails`."""

from __future__ import annotations

from collections.abc import Sequence

import anyio.to_thread

from interlock.core.context import Context
from interlock.core.messages import Usage
from interlock.flows.attempts import Operation, first_target, line
from interlock.flows.parts import Parts
from interlock.gateway.ports import Moderated, Moderates
from interlock.gateway.service import Served
from interlock.gateway.types import Target
from interlock.guardrails.types import Rule

__all__ = ["OWN_MODEL", "moderate"]

OWN_MODEL = "interlock/guardrails"
_MODERATE = Operation("moderation", "moderation.create")
_DETECTORS = ("injection", "pii", "secrets")


async def moderate(
    parts: Parts, ctx: Context, model: str, texts: Sequence[str], *, served: Served | None = None
) -> Sequence[Moderated]:
    """One verdict a text, in order. Raises: NotFound, InvalidInput, the provider's errors."""
    estimate = Usage(-(-sum(len(text.encode()) for text in texts) // 3), estimated=True)

    async def call(ctx: Context, provider: Moderates, name: str) -> tuple[Sequence[Moderated], Usage]:
        verdicts = await provider.moderate(ctx, texts, name)
        return verdicts, Usage(unmetered=True, estimated=True)

    async with line(parts, ctx, _MODERATE, model) as opened:
        opened.record.set(texts=len(texts))
        if model == OWN_MODEL:
            if served is not None:
                served.answered(Target.parse(OWN_MODEL))
            return await anyio.to_thread.run_sync(lambda: [_own(parts, text) for text in texts])
        # mypy cannot see that a Protocol stands for the type of its implementations.
        result, _ = await first_target(
            parts,
            opened,
            model,
            Moderates,  # type: ignore[type-abstract]
            _MODERATE,
            estimate=estimate,
            call=call,
            served=served,
        )
    return result


def _own(parts: Parts, text: str) -> Moderated:
    scores: dict[str, float] = {}
    for detector in _DETECTORS:
        scores[detector] = 0.0
        rule = Rule(id=detector, detector=detector, at=["input"])
        for finding in parts.guardrails.findings(rule, text):
            name = f"{detector}/{finding.label}"
            scores[name] = max(scores.get(name, 0.0), finding.score)
            scores[detector] = max(scores[detector], finding.score)
    flags = {name: score > 0 for name, score in scores.items()}
    return Moderated(any(flags.values()), flags, scores)
