"""What metrics may use of a workspace: its embedder, its checker of claims, a model that judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.core.messages import ChatRequest, Finish, TextDelta, text_message
from interlock.evals.ports import AskJudge, ClaimVerdict, Detected, Detector, Instruments, JudgeReply
from interlock.flows.attempts import Operation, line
from interlock.flows.metering import metered
from interlock.flows.parts import Parts
from interlock.gateway.types import RouteSpec
from interlock.guardrails.detectors import injection, pii, secrets
from interlock.guardrails.service import Guardrails
from interlock.guardrails.types import Rule
from interlock.knowledge.grounding.types import CheckerSpec
from interlock.knowledge.sentences import sentences
from interlock.knowledge.types import SupportCase

__all__ = ["detectors", "workspace_attacker", "workspace_instruments"]

_JUDGE = Operation("judge", "eval.judge")
_LONGEST_REPLY = 20_000


def workspace_instruments(
    parts: Parts, *, judge: str | None = None, folder: Path | None = None, licences: Sequence[Path] = ()
) -> Instruments:
    """Instruments of a workspace. Nothing is loaded before it is used.

    Args:
        judge: route or ``provider/model`` that judges; its cost is on the ledger, tagged ``purpose: evaluation``.
        folder: of the suite, where files that options name are looked for.
        licences: folders of judges' licences besides.

    Raises: NotFound: no such route.
    """
    if judge is not None:
        # A judge that does not exist is told before the first case.
        parts.gateway.route(judge)

    async def check(claim: str, passages: Sequence[str]) -> ClaimVerdict:
        return await _check(parts, claim, passages)

    async def ask(prompt: str, schema: Mapping[str, Any], model: str) -> JudgeReply:  # Any: a JSON schema
        named = model or judge
        if named is None:
            raise InvalidInput("no model is named that judges", param="judge", hint="--judge MODEL")
        route = parts.gateway.route(named).model_copy(update={"shadow": None, "post": []})
        return await _ask(parts, named, route, prompt, schema)

    return Instruments(
        embedder=parts.knowledge.embedder,
        check_claim=check,
        ask_judge=ask,
        judge=judge or "",
        workspace=folder,
        licences=licences,
        detectors=detectors(),
    )


def detectors() -> Mapping[str, Detector]:
    """The detectors that guardrails are made of; they need neither a model nor a workspace."""
    kinds = {"pii": pii.KINDS, "secrets": secrets.KINDS, "injection": injection.KINDS}
    return {name: Detector(partial(_found, Rule(id=name, detector=name, at=["output"])), kinds[name]) for name in kinds}


def _found(rule: Rule, text: str) -> Sequence[Detected]:
    return [Detected(each.label, each.span.start, each.span.end) for each in Guardrails.findings(rule, text)]


async def _check(parts: Parts, claim: str, passages: Sequence[str]) -> ClaimVerdict:
    checker = parts.grounding.checker(CheckerSpec())
    words = set(claim.casefold().split())
    cases = []
    for passage in passages:
        spans = sentences(passage)
        texts = tuple(passage[span.start : span.end] for span in spans) or (passage,)
        nearest = max(range(len(texts)), key=lambda at: len(words & set(texts[at].casefold().split())))
        cases.append(SupportCase(claim, texts, nearest))
    if not cases:
        return ClaimVerdict(False, 0.0, "there is nothing it could rest on")
    best = max(await checker.check(cases), key=lambda score: score.probability)
    return ClaimVerdict(best.probability >= checker.threshold, best.probability, best.reason)


def workspace_attacker(parts: Parts, model: str) -> AskJudge:
    """A route or ``provider/model`` that attacks in a red team's run, its cost on the ledger like a judge's.

    Raises: NotFound: no such route.
    """
    route = parts.gateway.route(model).model_copy(update={"shadow": None, "post": []})

    async def ask(prompt: str, schema: Mapping[str, Any], named: str) -> JudgeReply:  # Any: a JSON schema
        return await _ask(parts, named or model, route, prompt, schema, temperature=0.9)

    return ask


async def _ask(
    parts: Parts, judge: str, route: RouteSpec, prompt: str, schema: Mapping[str, Any], *, temperature: float = 0.0
) -> JudgeReply:
    request = ChatRequest(
        judge,
        (text_message("user", prompt),),
        max_output_tokens=1_000,
        temperature=temperature,
        response_schema=schema,
        schema_name="verdict",
    )
    written, model = "", judge
    async with line(parts, parts.access.local_owner(), _JUDGE, judge, {"purpose": "evaluation"}) as opened:
        async with aclosing(metered(parts.gateway, opened.bill, route, whole=True)(opened.ctx, request)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    written += event.text
                elif isinstance(event, Finish):
                    model = event.model or model
                if len(written) > _LONGEST_REPLY:
                    break
        cost = parts.cost.quote(opened.bill)
    return JudgeReply(written, model, 0 if cost is None else cost.nano)
