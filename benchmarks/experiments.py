"""Simulated experiments: how often a winner is named that is none, and how soon one that is one is found.

    python -m benchmarks.experiments [--runs 1000] [--seed 5] [--only null|better|counts]

The product's own judgement (`releases.experiments.analysing.judge`) on arms whose units succeed or fail, looked at
after every 25 units of an arm, up to 2,000. `null`: nothing differs, 2, 3 and 4 arms; beside it, what a z-test at every
look and a z-test of each variant at the end would say. `better`: one variant fails in .15 or .12 instead of .20.
`counts`: the sample-ratio check over k arms, right and wrong.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from statistics import NormalDist, median
from typing import NamedTuple

from interlock.core.ids import ReleaseId
from interlock.releases.experiments.analysing import ArmSeen, judge
from interlock.releases.experiments.planning import frozen
from interlock.releases.experiments.types import ExperimentSpec, Plan
from interlock.releases.rollouts.types import Measure
from interlock.stats.intervals import wilson
from interlock.stats.sequential import Moments, count_bayes_factor

EVERY, MOST = 25, 2000
FAILS = 0.2
_Z = NormalDist()


def plan_of(arms: int, *, effect: float = 0.05) -> Plan:
    """A plan of `arms` arms with all of the default alpha on the primary measure."""
    spec = ExperimentSpec.model_validate(
        {
            "name": "simulated",
            "app": "app",
            "arms": [{"name": f"arm{n}", "release": f"{n:08d}"} for n in range(arms)],
            "primary": {"measure": "declined", "effect": effect},
            "guardrails": [],
            "stops": [],
            "alpha": {"primary": 0.05, "guardrails": 0.01},
            "expected": {"level": FAILS},
        }
    )
    return frozen(spec, [ReleaseId(f"sha256:{n:064d}") for n in range(arms)])


class Ended(NamedTuple):
    """One simulated experiment."""

    verdict: str
    winners: tuple[str, ...]
    units: int
    """Of an arm."""
    losers: int
    naive: bool
    """A z-test at every look named a winner or loser."""
    fixed: bool
    """A z-test of each variant at the end did."""


def one(draw: random.Random, plan: Plan, rates: dict[str, float]) -> Ended:
    """Units come to every arm in turn."""
    measure: Measure = "declined"
    seen = {name: ArmSeen(of={measure: Moments()}) for name in rates}
    control = plan.control.name
    critical = _Z.inv_cdf(1 - 0.025)
    naive = False
    ended: Ended | None = None
    for unit in range(1, MOST + 1):
        for name, rate in rates.items():
            arm = seen[name]
            arm.units += 1
            arm.requests += 1
            arm.of[measure].add(float(draw.random() < rate))
        if unit % EVERY:
            continue
        if not naive and unit >= plan.spec.min_units:
            naive = any(_z(seen[n].of[measure], seen[control].of[measure]) > critical for n in rates if n != control)
        if ended is None:
            report = judge(plan, seen)
            if report.settled or report.winners:
                losers = sum(each.verdict == "worse" for each in report.comparisons)
                ended = Ended(report.verdict, report.winners, unit, losers, False, False)
    fixed = any(_z(seen[n].of[measure], seen[control].of[measure]) > critical for n in rates if n != control)
    ended = ended or Ended("inconclusive", (), MOST, 0, False, False)
    return ended._replace(naive=naive, fixed=fixed)


def _z(treated: Moments, control: Moments) -> float:
    error = math.sqrt(treated.variance / treated.n + control.variance / control.n)
    return abs(treated.mean - control.mean) / error if error else 0.0


def share(hits: int, runs: int) -> str:
    """A share with its interval."""
    low, high = wilson(hits, runs)
    return f"{100 * hits / runs:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def null(draw: random.Random, runs: int) -> None:
    """Nothing differs: whoever is named is named wrongly."""
    for arms in (2, 3, 4):
        plan = plan_of(arms)
        ends = [one(draw, plan, {arm.name: FAILS for arm in plan.arms}) for _ in range(runs)]
        wrong = sum(bool(each.winners) for each in ends)
        either = sum(bool(each.winners) or bool(each.losers) for each in ends)
        print(f"{arms} equal arms: false winner {share(wrong, runs)}, false winner or loser {share(either, runs)}")
        print(
            f"  z-test at every look {share(sum(e.naive for e in ends), runs)}, once at the end, uncorrected "
            f"{share(sum(e.fixed for e in ends), runs)}"
        )
        print(f"  verdicts {dict(Counter(each.verdict for each in ends))}", flush=True)


def better(draw: random.Random, runs: int) -> None:
    """One variant is better; the others are as the control."""
    for rate in (0.15, 0.12):
        for arms in (2, 3, 4):
            plan = plan_of(arms)
            rates = {arm.name: FAILS for arm in plan.arms}
            rates["arm1"] = rate
            ends = [one(draw, plan, rates) for _ in range(runs)]
            hits = [each.units for each in ends if "arm1" in each.winners]
            wrong = sum(any(name != "arm1" for name in each.winners) for each in ends)
            when = f"median {median(hits):.0f} units an arm" if hits else ""
            print(
                f"{arms} arms, one fails in {rate:.2f} instead of {FAILS:.2f}: found {share(len(hits), runs)} {when}; "
                f"another named {share(wrong, runs)}; planned {plan.forecast.units} units",
                flush=True,
            )


def counts(draw: random.Random, runs: int) -> None:
    """The check of shares over k arms, looked at every 100 of 20,000 units."""
    for arms in (2, 3, 4):
        asked = [1 / arms] * arms
        for name, first in (("right", 1.0), ("one arm loses 10 % of its units", 0.9)):
            weights = [first, *([1.0] * (arms - 1))]
            alarms: list[int] = []
            for _ in range(runs):
                found = [0] * arms
                for unit in range(1, 20_001):
                    found[draw.choices(range(arms), weights)[0]] += 1
                    if unit % 100 == 0 and count_bayes_factor(found, asked) > 1000:
                        alarms.append(unit)
                        break
            when = f", median after {median(alarms):.0f} units" if alarms else ""
            print(f"{arms} arms, {name}: alarm {share(len(alarms), runs)}{when}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", choices=["null", "better", "counts"])
    given = parser.parse_args()
    draw = random.Random(given.seed)
    if given.only in {None, "null"}:
        null(draw, given.runs)
    if given.only in {None, "better"}:
        better(draw, given.runs // 5)
    if given.only in {None, "counts"}:
        counts(draw, given.runs // 5)


if __name__ == "__main__":
    main()
