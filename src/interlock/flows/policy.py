"""What a channel's policy says of evidence that somebody made up: tests of policies, in files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from interlock.core.canonical import digest_bytes
from interlock.core.clock import now
from interlock.core.ids import AppName, ReleaseId
from interlock.flows.app_files import validate_yaml
from interlock.flows.parts import Parts
from interlock.releases.promotion import Demand, Evidence, EvidenceKind, PromotionPolicy, demands

__all__ = ["PolicyTests", "Tested", "read_tests", "run_tests", "verdict_of"]

Verdict = Literal["pass", "fail", "not_enough_evidence"]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Shown(_Spec):
    """One piece of evidence."""

    kind: EvidenceKind
    name: str = Field(min_length=1, max_length=128, description="suite, or role of who signed")
    verdict: Literal["pass", "fail", "not_enough_evidence", "approved", "rejected"] = "pass"
    by: str = "somebody"
    age_days: float = Field(default=0.0, ge=0)
    summary: dict[str, str | int | float | bool] = Field(default={}, description="figures, as mean.exact")


class _Case(_Spec):
    """What the policy should say of some evidence."""

    name: str = Field(min_length=1, max_length=200)
    built_by: str = "developer"
    evidence: list[_Shown] = Field(default=[], max_length=200)
    expect: Verdict
    unmet: list[str] | None = Field(default=None, description="the demands that are not met, all of them")


class PolicyTests(_Spec):
    """`policy.tests.yaml`."""

    channel: Literal["stage", "prod"] = "prod"
    tests: list[_Case] = Field(min_length=1, max_length=500)


class Tested(NamedTuple):
    """One case and what came of it."""

    name: str
    passed: bool
    why: str
    demands: tuple[Demand, ...]


def read_tests(file: Path) -> PolicyTests:
    """A file of tests. Raises: InvalidInput naming file and field."""
    return validate_yaml(file, PolicyTests)


def verdict_of(asked: list[Demand]) -> Verdict:
    """What demands come to, as the gate says it."""
    states = {each.state for each in asked}
    return "fail" if "failed" in states else "not_enough_evidence" if "open" in states else "pass"


def run_tests(parts: Parts, app: str, tests: PolicyTests) -> list[Tested]:
    """Ask the policy that holds now. Nothing is stored, and no model is called. Raises: NotFound, InvalidInput."""
    policy = parts.releases.policy(app, tests.channel)
    return [_run(policy, app, tests.channel, case) for case in tests.tests]


def _run(policy: PromotionPolicy, app: str, channel: str, case: _Case) -> Tested:
    at, release = now(), ReleaseId(digest_bytes(case.name.encode()))
    evidence = [
        Evidence(
            digest_bytes(f"{case.name} {n}".encode()),
            AppName(app),
            release,
            each.kind,
            each.name,
            each.verdict,
            each.by,
            at - timedelta(days=each.age_days),
            summary={"channel": channel, **each.summary} if each.kind == "replay" else each.summary,
        )
        for n, each in enumerate(case.evidence)
    ]
    asked = demands(policy, evidence, built_by=case.built_by, at=at, app=app, channel=channel, release=release)
    said, unmet = verdict_of(asked), [each.demand for each in asked if each.state != "met"]
    wrong = []
    if said != case.expect:
        wrong.append(f"it says {said.replace('_', ' ')}, not {case.expect.replace('_', ' ')}")
    if case.unmet is not None and set(unmet) != set(case.unmet):
        wrong.append(f"not met are {', '.join(unmet) or 'none'}, not {', '.join(case.unmet) or 'none'}")
    told = "; ".join(f"{each.demand}: {each.why}" for each in asked if each.state != "met")
    return Tested(case.name, not wrong, "; ".join(wrong) + (f" ({told})" if wrong and told else ""), tuple(asked))
