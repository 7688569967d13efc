"""The guardrails part's door: check the input, the passages, the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from interlock.core.context import Context
from interlock.core.errors import Blocked, TooLarge
from interlock.core.passages import Passage
from interlock.core.patterns import aside
from interlock.core.plugins import Registry
from interlock.core.release import Release
from interlock.guardrails.ports import Detector
from interlock.guardrails.types import Finding, GuardrailSpec, Point, Rule, Verdict

__all__ = ["Guardrails"]

DETECTORS: Registry[Detector] = Registry("detector", "interlock.guardrails.detectors")
T = TypeVar("T")
_SEVERITY = ("allow", "flag", "redact", "block")


class Guardrails:
    """Applies an app's policy. Works without any model."""

    def spec(self, release: Release) -> GuardrailSpec:
        """The release's policy."""
        return GuardrailSpec.model_validate(release.components.get("guardrails", {}), extra="ignore")

    def check(self, spec: GuardrailSpec, point: Point, text: str) -> Verdict:
        """The severest verdict of the rules on one text, with the findings of every rule that says the same."""
        worst = Verdict("allow")
        for rule in spec.rules:
            if point in rule.at:
                found = tuple(DETECTORS.get(rule.detector)(text, rule))
                if found and rule.action == worst.action:
                    worst = replace(worst, findings=worst.findings + found)
                elif found and _SEVERITY.index(rule.action) > _SEVERITY.index(worst.action):
                    worst = Verdict(rule.action, rule.id, rule.message, found)
        return worst

    async def _checked(self, spec: GuardrailSpec, point: Point, text: str) -> Verdict:
        """As `check`, with the policy's own patterns tried beside the event loop."""
        if any(rule.patterns for rule in spec.rules):
            return await aside(lambda: self.check(spec, point, text))
        return self.check(spec, point, text)

    @staticmethod
    def findings(rule: Rule, text: str) -> Sequence[Finding]:
        """What one rule's detector sees in a text."""
        return DETECTORS.get(rule.detector)(text, rule)

    async def check_input(self, ctx: Context, release: Release, text: str) -> Verdict:
        """Check what the caller sent. Raises: TooLarge, Blocked."""
        spec = self.spec(release)
        if len(text) > spec.max_input_chars:
            raise TooLarge(
                f"the question has {len(text)} characters; this app takes {spec.max_input_chars}", param="messages"
            )
        with ctx.span("guardrails.input") as (span, _):
            verdict = await self._checked(spec, "input", text)
            span.set({"interlock.verdict": verdict.action, "interlock.rule": verdict.rule})
            if verdict.action == "block":
                raise _blocked(verdict, "the question")
        return verdict

    async def check_passages(self, ctx: Context, release: Release, passages: Sequence[Passage]) -> Sequence[Passage]:
        """Drop passages the policy blocks, blank what it redacts. Passages are untrusted text."""
        spec = self.spec(release)
        if not any("passages" in rule.at for rule in spec.rules):
            return passages
        with ctx.span("guardrails.passages") as (span, _):
            kept = []
            for passage in passages:
                verdict = await self._checked(spec, "passages", passage.text)
                if verdict.action == "redact":
                    kept.append(replace(passage, text=blank(passage.text, verdict)))
                elif verdict.action != "block":
                    kept.append(passage)
            span.set({"interlock.passages.in": len(passages), "interlock.passages.out": len(kept)})
        return kept

    async def watch_output(self, release: Release, work: Callable[[], T]) -> T:
        """Run `work`, which calls `check_output`, beside the event loop when the policy has patterns of its own."""
        if any(rule.patterns and "output" in rule.at for rule in self.rules(release)):
            return await aside(work)
        return work()

    def check_output(self, release: Release, text: str) -> str:
        """Check a finished sentence before it is shown; gives it back, redacted where the policy says so.

        Raises: Blocked.
        """
        verdict = self.check(self.spec(release), "output", text)
        if verdict.action == "block":
            raise _blocked(verdict, "the answer")
        return blank(text, verdict) if verdict.action == "redact" else text

    @staticmethod
    def rules(release: Release) -> Sequence[Rule]:
        """The policy's rules, for people."""
        return GuardrailSpec.model_validate(release.components.get("guardrails", {}), extra="ignore").rules


def blank(text: str, verdict: Verdict) -> str:
    """Replace each finding by black squares of the same length, so that offsets still hold."""
    for finding in verdict.findings:
        text = text[: finding.span.start] + "█" * (finding.span.end - finding.span.start) + text[finding.span.end :]
    return text


def _blocked(verdict: Verdict, what: str) -> Blocked:
    return Blocked(
        verdict.message or f"the policy rule {verdict.rule!r} stopped {what}", hint="rephrase, or ask the app's owner"
    )
