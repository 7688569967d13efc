"""Simulated rollouts: how often a canary is rolled back for nothing, and how soon harm is found.

    python -m benchmarks.rollouts [--runs 1500] [--seed 3] [--only rules|whole]

Success is drawn for each unit of both arms; every 25 units of an arm somebody looks, up to 4,000. Rolled back is when
harm is proven at the level .05 by the sequence that the product uses, by its betting process, and, for comparison, by
a z-test that was made for one look. With `clustered`, a unit is a user with 20 requests of their own habit: judged by
user (as the product does) and by request (as it must not be).

`whole` runs the product's own judgement (`releases.rollouts.analysing`) with its default steps and guardrails: people
come one by one with one to five requests each, fall to the arms as the share of the step says, and after every 200 of
them it looks, up to 6,000. What it does in the end is counted.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import NormalDist, median
from typing import NamedTuple

from interlock.releases.rollouts.analysing import analyse
from interlock.releases.rollouts.types import Arm, RolloutSpec, UnitOutcome
from interlock.stats.intervals import wilson
from interlock.stats.sequential import BettingProcess, Moments, count_bayes_factor, gap_between, lower_bound

ALPHA = 0.05
EVERY = 25
MOST = 4000
_Z = NormalDist().inv_cdf(1 - ALPHA)


@dataclass
class Found:
    """By rule: in how many runs harm was proven, and after how many units an arm."""

    at: dict[str, list[int]] = field(default_factory=dict)
    runs: int = 0

    def note(self, rule: str, units: int | None) -> None:
        """One run of one rule."""
        found = self.at.setdefault(rule, [])
        if units is not None:
            found.append(units)


def rules(pairs: Iterator[tuple[float, float]]) -> dict[str, int | None]:
    """Units an arm at which each rule proves harm of the second of each pair; None for never."""
    control, treated = Moments(), Moments()
    bets = BettingProcess()
    found: dict[str, int | None] = {"z-test at every look": None, "confidence sequence": None, "betting": None}
    for unit, (of_control, of_treated) in enumerate(pairs, 1):
        control.add(of_control)
        treated.add(of_treated)
        bets.add(of_control, of_treated)
        if unit % EVERY:
            continue
        gap = gap_between(control, treated)
        if gap.error > 0:
            if found["z-test at every look"] is None and gap.mean / gap.error > _Z:
                found["z-test at every look"] = unit
            if found["confidence sequence"] is None and lower_bound(gap, ALPHA) > 0:
                found["confidence sequence"] = unit
        if found["betting"] is None and bets.evidence >= 1 / ALPHA:
            found["betting"] = unit
        if None not in found.values():
            break
    return found


def one_by_one(draw: random.Random, control: float, treated: float) -> Iterator[tuple[float, float]]:
    """Outcomes of units that know nothing of each other."""
    for _ in range(MOST):
        yield float(draw.random() < control), float(draw.random() < treated)


def habits(draw: random.Random, rate: float, alike: float, users: int, requests: int) -> list[list[float]]:
    """Outcomes by user: each has a rate of their own, alike to the degree `alike` (intraclass correlation)."""
    spread = (1 - alike) / alike
    own = [draw.betavariate(rate * spread, (1 - rate) * spread) for _ in range(users)]
    return [[float(draw.random() < each) for _ in range(requests)] for each in own]


def clustered(draw: random.Random, alike: float, *, by_user: bool) -> Iterator[tuple[float, float]]:
    """Equal arms of 200 users with 20 requests each, in turn."""
    arms = [habits(draw, 0.9, alike, 200, 20) for _ in range(2)]
    if by_user:
        yield from ((sum(a) / len(a), sum(b) / len(b)) for a, b in zip(*arms, strict=True))
        return
    yield from ((a, b) for left, right in zip(*arms, strict=True) for a, b in zip(left, right, strict=True))


def told(name: str, found: Found) -> None:
    """A line a rule."""
    for rule, units in found.at.items():
        low, high = wilson(len(units), found.runs)
        when = f"median {median(units):6.0f} units an arm" if units else ""
        share = f"{100 * len(units) / found.runs:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        print(f"{name:<34} {rule:<22} {share:<22} {when}", flush=True)


def counts(draw: random.Random, runs: int, share: float) -> None:
    """Sample-ratio mismatch: how often the sequential check alarms, looked at every 100 of 20,000 units."""
    alarms: list[int] = []
    for _ in range(runs):
        first = 0
        for unit in range(1, 20_001):
            first += draw.random() < share
            if unit % 100 == 0 and count_bayes_factor((first, unit - first), (0.5, 0.5)) > 1000:
                alarms.append(unit)
                break
    found = Found({"sample-ratio check": alarms}, runs)
    told(f"assignment {share:.2f} / {1 - share:.2f}", found)


PEOPLE = 6_000
LOOK_EVERY = 200


def people(draw: random.Random, arm: Arm, number: int, harm: Harm) -> UnitOutcome:
    """One person with a habit of their own: some decline rate, some speed."""
    requests = draw.randint(1, 5)
    worse = arm == "candidate"
    speed = draw.gauss(0.0, 0.3) + (math.log1p(harm.slower) if worse else 0.0)
    latencies = [speed + draw.gauss(0.0, 0.4) for _ in range(requests)]

    def share(rate: float) -> float:
        return sum(draw.random() < rate for _ in range(requests)) / requests

    return UnitOutcome(
        unit=f"u{number}",
        arm=arm,
        first_ns=number,
        requests=requests,
        error=share(0.02 + (harm.errors if worse else 0.0)),
        declined=share(0.1 + (harm.declined if worse else 0.0)),
        blocked=0.0,
        unsupported=None,
        complaint=None,
        log_latency=sum(latencies) / requests,
        log_cost=None,
        latency_s=sum(map(math.exp, latencies)) / requests,
        cost_nano=0,
    )


class Harm(NamedTuple):
    """By how much the candidate is worse."""

    errors: float = 0.0
    declined: float = 0.0
    slower: float = 0.0
    """As a share of the seconds."""


def whole(draw: random.Random, harm: Harm, spec: RolloutSpec) -> tuple[str, int]:
    """How one rollout ends, and after how many people that the candidate served."""
    outcomes: list[UnitOutcome] = []
    step = begun = 0
    for number in range(1, PEOPLE + 1):
        arm: Arm = "candidate" if draw.random() * 100 < spec.steps[step] else "control"
        outcomes.append(people(draw, arm, number, harm))
        if number % LOOK_EVERY:
            continue
        last = step == len(spec.steps) - 1
        found = analyse(spec, outcomes, percent=spec.steps[step], step_ns=begun, last=last)
        if found.action in {"roll_back", "pause"} or (found.action == "advance" and last):
            return ("promote" if found.action == "advance" else found.action), found.units[0]
        if found.action == "advance":
            step, begun = step + 1, number + 1
    return "hold", sum(each.arm == "candidate" for each in outcomes)


def wholes(draw: random.Random, runs: int) -> None:
    """The product's judgement on candidates that are as good, or worse in one way."""
    spec = RolloutSpec()
    candidates = {
        "as good": Harm(),
        "errors 2 % -> 6 %": Harm(errors=0.04),
        "errors 2 % -> 12 %": Harm(errors=0.10),
        "declined 10 % -> 20 %": Harm(declined=0.10),
        "50 % slower": Harm(slower=0.5),
        "3 % slower": Harm(slower=0.03),
    }
    for name, harm in candidates.items():
        ends: dict[str, list[int]] = {}
        for _ in range(runs):
            end, served = whole(draw, harm, spec)
            ends.setdefault(end, []).append(served)
        for end, served in sorted(ends.items()):
            low, high = wilson(len(served), runs)
            share = f"{100 * len(served) / runs:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
            print(f"{name:<24} {end:<10} {share:<22} median {median(served):6.0f} people served by it", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--only", choices=["rules", "whole"])
    given = parser.parse_args()
    draw = random.Random(given.seed)
    if given.only != "rules":
        wholes(draw, given.runs // 5)
    if given.only == "whole":
        return
    for control, treated in ((0.9, 0.9), (0.97, 0.97), (0.9, 0.87), (0.9, 0.85), (0.9, 0.8), (0.9, 0.7)):
        found = Found(runs=given.runs)
        for _ in range(given.runs):
            for rule, units in rules(one_by_one(draw, control, treated)).items():
                found.note(rule, units)
        told(f"success {control:.2f} against {treated:.2f}", found)
    for alike in (0.05, 0.2, 0.4):
        for by_user in (True, False):
            found = Found(runs=given.runs // 2)
            for _ in range(found.runs):
                for rule, units in rules(clustered(draw, alike, by_user=by_user)).items():
                    found.note(rule, units)
            told(f"equal, alike {alike:.2f}, by {'user' if by_user else 'request'}", found)
    for share in (0.5, 0.52, 0.55):
        counts(draw, given.runs // 5, share)


if __name__ == "__main__":
    main()
