"""What a release must have shown before a channel may point at it: evidence by digest, sign-off by role. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from interlock.core.context import Role
from interlock.core.ids import AppName, ReleaseId
from interlock.releases.conditions import Condition, facts, tried

__all__ = [
    "Demand",
    "DemandState",
    "Evidence",
    "EvidenceKind",
    "PromotionPolicy",
    "Shown",
    "SignOff",
    "Unmet",
    "demands",
    "merged",
]

EvidenceKind = Literal[
    "evaluation",
    "red_team",
    "load",
    "cost_forecast",
    "sign_off",
    "lint",
    "prompt_tests",
    "consumers",
    "experiment",
    "replay",
]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SignOff(_Spec):
    """People who have to agree."""

    roles: list[Role] = Field(default=[Role.RISK], min_length=1, description="one of these, for each signature")
    count: int = Field(default=1, ge=1, le=10, description="signatures of different people")
    separate: bool = Field(default=True, description="not by who built the release")


class PromotionPolicy(_Spec):
    """What a channel asks of a release. Nothing by default."""

    evaluations: list[Annotated[str, StringConstraints(min_length=1)]] = Field(
        default_factory=list, description="suites whose gate must have passed on exactly this release"
    )
    red_team: list[Annotated[str, StringConstraints(min_length=1)]] = Field(
        default_factory=list, description="red-team suites, likewise"
    )
    lint: Literal["error", "warn"] | None = Field(
        default=None, description="the prompt has no findings of this kind; warn: neither errors nor warnings"
    )
    prompt_tests: bool = Field(default=False, description="the tests beside the prompt have passed on this release")
    replay: bool = Field(
        default=False,
        description="past requests were replayed on exactly this release, and it is shown to be no worse than what the "
        "channel points at",
    )
    max_age_days: float = Field(default=30.0, gt=0, description="older evidence does not count")
    sign_off: SignOff | list[SignOff] | None = Field(
        default=None, description="people who have to agree; of a list all of them"
    )
    conditions: list[Condition] = Field(
        default_factory=list, max_length=50, description="what else has to be true of what is known, in CEL"
    )
    rollout: bool = Field(default=False, description="only a rollout may move the channel to a new release")


def merged(first: PromotionPolicy, second: PromotionPolicy) -> PromotionPolicy:
    """What satisfies both."""
    return PromotionPolicy(
        evaluations=sorted({*first.evaluations, *second.evaluations}),
        red_team=sorted({*first.red_team, *second.red_team}),
        lint="warn" if "warn" in {first.lint, second.lint} else first.lint or second.lint,
        prompt_tests=first.prompt_tests or second.prompt_tests,
        replay=first.replay or second.replay,
        max_age_days=min(first.max_age_days, second.max_age_days),
        sign_off=_both(_signatures(first), _signatures(second)) or None,
        conditions=[*first.conditions, *(each for each in second.conditions if each not in first.conditions)],
        rollout=first.rollout or second.rollout,
    )


def _both(first: Sequence[SignOff], second: Sequence[SignOff]) -> list[SignOff]:
    return [*first, *(each for each in second if each not in first)]


def _signatures(policy: PromotionPolicy) -> Sequence[SignOff]:
    if policy.sign_off is None:
        return ()
    return policy.sign_off if isinstance(policy.sign_off, list) else [policy.sign_off]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that is known of a release."""

    digest: str
    """Of the whole report, kept as a blob; of a sign-off of what was signed."""
    app: AppName
    release: ReleaseId
    kind: EvidenceKind
    name: str
    """Suite, or role of who signed."""
    verdict: str
    """``pass``, ``fail``, ``not_enough_evidence``; ``approved`` or ``rejected`` of a sign-off."""
    by: str
    at: datetime
    note: str = ""
    summary: dict[str, str | int | float | bool] = field(default_factory=dict)
    """A few figures for lists."""


class Shown(NamedTuple):
    """Evidence with the whole report that it was made from."""

    evidence: Evidence
    report: bytes


DemandState = Literal["met", "failed", "open"]
"""`failed` where something speaks against the release, `open` where too little is known."""


class Demand(NamedTuple):
    """One thing that a channel asks of a release."""

    demand: str
    state: DemandState
    why: str
    hint: str
    """What to do next; empty where it is met."""


class Unmet(NamedTuple):
    """One demand that is not met."""

    demand: str
    why: str
    hint: str


def demands(
    policy: PromotionPolicy,
    evidence: Sequence[Evidence],
    *,
    built_by: str,
    at: datetime,
    app: str,
    channel: str = "prod",
    pointed: str | None = None,
    frozen: str = "",
    release: str = "",
) -> list[Demand]:
    """Every demand of a policy and how the evidence of one release meets it, in the policy's order.

    Of several runs of one suite the newest counts. A pass after runs of the same cases that did not pass has to be the
    clearer for it (Bonferroni): whoever asks again and again passes by luck in the end.

    Args:
        channel: whose policy it is; replays for other channels do not count.
        pointed: what the channel points at now, which replays have to compare with; None: with anything.
        frozen: first digits of the release, for hints; empty where it is what the files describe.
        release: its whole id, for conditions that read it.
    """
    # Of a frozen release the files may long say something else.
    again = f"interlock gate --app {app}" + (f" --release {frozen}" if frozen else "") + " --run"
    found: list[Demand] = []
    oldest = at - timedelta(days=policy.max_age_days)
    for kind, suites in (("evaluation", policy.evaluations), ("red_team", policy.red_team)):
        for suite in suites:
            runs = [each for each in evidence if each.kind == kind and each.name == suite]
            demand = f"{kind.replace('_', ' ')} {suite!r}"
            found.append(_run(demand, runs, oldest=oldest, hint=again))
    if policy.lint is not None:
        named = frozen or "live"
        found.append(_linted(policy.lint, evidence, hint=f"interlock prompt lint --release {app}:{named}"))
    if policy.prompt_tests:
        found.append(_tested(evidence, oldest=oldest, hint=again))
    if policy.replay:
        hint = f"interlock rollout replay {frozen or 'RELEASE'} --app {app} --channel {channel} --requests FILE"
        runs = [each for each in evidence if each.kind == "replay"]
        found.append(_replayed(runs, channel=channel, pointed=pointed, oldest=oldest, hint=hint))
    found += [_signed(each, evidence, built_by=built_by, oldest=oldest, app=app) for each in _signatures(policy)]
    if policy.conditions:
        # What is too old does not count here either.
        fresh = [each for each in evidence if each.at >= oldest]
        known = facts(fresh, built_by=built_by, at=at, app=app, release=release)
        for condition in policy.conditions:
            state, why, _ = tried(condition, known)
            hint = "" if state == "met" else condition.hint or f"interlock policy explain --app {app}"
            found.append(Demand(condition.name, state, why, hint))
    return found


def _run(demand: str, runs: Sequence[Evidence], *, oldest: datetime, hint: str) -> Demand:
    newest = max(runs, key=lambda each: each.at, default=None)
    if newest is None:
        return Demand(demand, "open", "it was not run on this release", hint)
    same = newest.summary.get("suite_digest")
    missed = sum(each.verdict != "pass" and each.summary.get("suite_digest") == same for each in runs)
    more = _More(missed, "cases", "add cases to the suite, or mend the release")
    return _newest(demand, newest, more, oldest=oldest, hint=hint)


class _More(NamedTuple):
    """How often the same was asked before without a pass."""

    missed: int
    of: str
    hint: str


def _newest(demand: str, newest: Evidence, again: _More, *, oldest: datetime, hint: str) -> Demand:
    if newest.verdict != "pass":
        state: DemandState = "failed" if newest.verdict == "fail" else "open"
        # What it found comes first; the same run again would find it again.
        look = f"interlock eval show {run}" if (run := newest.summary.get("run")) else hint
        return Demand(demand, state, f"its gate says {newest.verdict.replace('_', ' ')}", look)
    if newest.at < oldest:
        return Demand(demand, "open", f"it is from {newest.at:%Y-%m-%d}, which is too old", hint)
    p, alpha, missed = newest.summary.get("p"), newest.summary.get("alpha"), again.missed
    if missed and isinstance(p, float) and isinstance(alpha, float) and p * (missed + 1) > alpha:
        why = (
            f"it passed after {missed} runs of the same {again.of} that did not: "
            f"for that p = {p:.2g} is not small enough, {alpha / (missed + 1):.2g} is asked for"
        )
        return Demand(demand, "open", why, again.hint)
    return Demand(demand, "met", f"passed on {newest.at:%Y-%m-%d %H:%M}", "")


def _replayed(replays: Sequence[Evidence], *, channel: str, pointed: str | None, oldest: datetime, hint: str) -> Demand:
    """The newest counts, and each that found the release surely worse until its requests were asked again."""
    ours = [each for each in replays if _is_of(each, channel)]
    runs = [each for each in ours if pointed is None or each.summary.get("control") == pointed]
    runs.sort(key=lambda each: each.at)
    if not runs:
        why = f"{channel} points at another release now than it was compared with" if ours else ""
        return Demand("replay", "open", why or "it was not run on this release", hint)

    def judged(each: Evidence) -> Demand:
        missed = sum(other.at < each.at and other.verdict != "pass" and _repeats(each, other) for other in runs)
        more = _More(missed, "requests", "replay more requests, or mend the release")
        return _newest("replay", each, more, oldest=oldest, hint=hint)

    for place, worse in enumerate(runs[:-1]):
        if worse.verdict != "fail":
            continue
        again = [each for each in runs[place + 1 :] if _asks_again(each, worse)]
        if not again:
            why = (
                f"that of {worse.at:%Y-%m-%d %H:%M} found it surely worse, and none since has asked its requests again"
            )
            return Demand("replay", "failed", why, hint)
        if (told := judged(again[-1])).state != "met":
            return told
    return judged(runs[-1])


def _is_of(replay: Evidence, channel: str) -> bool:
    # Replays were once kept without their channel: such a one may speak against a release, and not for it.
    said = replay.summary.get("channel")
    return replay.verdict == "fail" if said is None else said == channel


def _repeats(replay: Evidence, earlier: Evidence) -> bool:
    """Whether it drew from the same requests, by whatever seed, or asked all that an earlier one did."""
    same = replay.summary.get("requests_digest")
    return (same is not None and same == earlier.summary.get("requests_digest")) or _covers(replay, earlier)


def _asks_again(replay: Evidence, earlier: Evidence) -> bool:
    return _covers(replay, earlier) or (_repeats(replay, earlier) and _units(replay) >= _units(earlier))


def _covers(replay: Evidence, earlier: Evidence) -> bool:
    return earlier.digest in str(replay.summary.get("covers", "")).split(",")


def _units(replay: Evidence) -> float:
    said = replay.summary.get("units")
    return said if isinstance(said, int | float) else 0


def _linted(level: Literal["error", "warn"], evidence: Sequence[Evidence], *, hint: str) -> Demand:
    """Rules look at the same texts in the same way whenever they are asked: what they found does not grow old."""
    newest = max((each for each in evidence if each.kind == "lint"), key=lambda each: each.at, default=None)
    demand = "prompt without errors" if level == "error" else "prompt without errors and warnings"
    if newest is None:
        return Demand(demand, "open", "the prompt of this release was not looked over", hint)
    counted = [str(newest.summary.get(name, 0)) for name in ("errors", "warnings")]
    if newest.verdict != "pass" or (level == "warn" and counted[1] != "0"):
        return Demand(demand, "failed", f"{counted[0]} errors and {counted[1]} warnings", hint)
    return Demand(demand, "met", f"looked over on {newest.at:%Y-%m-%d %H:%M}", "")


def _tested(evidence: Sequence[Evidence], *, oldest: datetime, hint: str) -> Demand:
    newest = max((each for each in evidence if each.kind == "prompt_tests"), key=lambda each: each.at, default=None)
    if newest is None:
        return Demand("tests of the prompt", "open", "they were not run on this release", hint)
    if newest.verdict != "pass":
        return Demand("tests of the prompt", "failed", newest.note or "they failed", hint)
    if newest.summary.get("tests") == 0:
        return Demand("tests of the prompt", "open", "there were none to run", hint)
    if newest.at < oldest:
        why = f"they are from {newest.at:%Y-%m-%d}, which is too old"
        return Demand("tests of the prompt", "open", why, hint)
    return Demand("tests of the prompt", "met", f"passed on {newest.at:%Y-%m-%d %H:%M}", "")


def _signed(wanted: SignOff, evidence: Sequence[Evidence], *, built_by: str, oldest: datetime, app: str) -> Demand:
    latest: dict[str, Evidence] = {}
    for each in sorted(evidence, key=lambda each: each.at):
        if each.kind == "sign_off" and each.name in wanted.roles:
            latest[each.by] = each
    hint = f"interlock release sign RELEASE --app {app} --role {wanted.roles[0]}"
    demand = f"sign-off by {' or '.join(wanted.roles)}"
    if rejected := [each.by for each in latest.values() if each.verdict != "approved"]:
        return Demand(demand, "failed", f"{rejected[0]} has rejected it", hint)
    signed = [each for each in latest.values() if each.at >= oldest and not (wanted.separate and each.by == built_by)]
    if len(signed) >= wanted.count:
        return Demand(demand, "met", f"signed by {', '.join(each.by for each in signed)}", "")
    own = wanted.separate and built_by in latest
    why = f"{len(signed)} of {wanted.count}" + ("; who built a release cannot sign it off" if own else "")
    return Demand(demand, "open", why, hint)
