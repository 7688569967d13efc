"""Simulated rollouts: how often a canary is rolled back for nothing, and how soon harm is found.

    python -m benchmarks.rollouts [--runs 1500] [--seed 3]

Success is drawn for each unit of both arms; every 25 units of an arm somebody looks, up to 4,000. Rolled back is when
harm is proven at the level .05 by the sequence that the product uses, by its betting process, and, for comparison, by
a z-test that was made for one look. With `clustered`, a unit is a user with 20 requests of their own habit: judged by
user (as the product does) and by request (as it must not be).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import NormalDist, median

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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=3)
    given = parser.parse_args()
    draw = random.Random(given.seed)
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
