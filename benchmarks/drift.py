"""Simulated monitoring: how often a detector of drift alarms for nothing, and how soon it finds a change.

    python -m benchmarks.drift [--runs 200] [--seed 3] [--only inputs|scores|canaries]

The product's own detectors run (`evals.monitoring.watching`) with their default settings. Questions are unit vectors
around eight topics, uneven in size; a change brings a ninth. Scores are answers that are good or not. Canaries are
distances to the first answer, small and ragged; a change makes them large. Beside the change detector stands what is
often done: a t-test of the newest 200 scores against the first, looked at after every 50.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from statistics import NormalDist, fmean, median, pvariance

import numpy as np

from interlock.evals.monitoring.types import MonitorSpec, Sample
from interlock.evals.monitoring.watching import watch_inputs, watch_values
from interlock.stats.intervals import wilson

SPEC = MonitorSpec()
AT = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS, DIMENSIONS = 9, 48
SHARES = (0.24, 0.2, 0.16, 0.12, 0.1, 0.08, 0.06, 0.04)
_Z = NormalDist().inv_cdf(0.975)


def told(name: str, alarms: list[int], runs: int, unit: str) -> None:
    """A line: in how many runs there was an alarm, and after how many values."""
    low, high = wilson(len(alarms), runs)
    when = f"median {median(alarms):,.0f} {unit}" if alarms else ""
    print(f"{name:<58} {100 * len(alarms) / runs:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]  {when}", flush=True)


def questions(draw: np.random.Generator, count: int, new: float) -> Iterator[Sample]:
    """Questions of eight topics, and a share of a ninth."""
    centres = np.random.default_rng(1).normal(size=(TOPICS, DIMENSIONS))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    topics = draw.choice(TOPICS, size=count, p=[*(share * (1 - new) for share in SHARES), new])
    vectors = centres[topics] + draw.normal(scale=0.09, size=(count, DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for number, vector in enumerate(vectors):
        yield Sample(f"t{number}", "app", "r", AT, None, [float(each) for each in vector], {})


def inputs(seed: int, runs: int) -> None:
    """Windows until an alarm; without a change twenty windows are looked at."""
    for new, windows in ((0.0, 20), (0.05, 20), (0.1, 20), (0.2, 20), (0.4, 20)):
        found: dict[str, list[int]] = {"input_drift": [], "intent_drift": []}
        for run in range(runs):
            draw = np.random.default_rng([seed, run])
            state, _ = watch_inputs({}, list(questions(draw, SPEC.reference, 0.0)), spec=SPEC)
            seen: set[str] = set()
            for window in range(1, windows + 1):
                state, findings = watch_inputs(state, list(questions(draw, SPEC.window, new)), spec=SPEC)
                for kind in {each.kind for each in findings} - seen:
                    found[kind].append(window * SPEC.window)
                    seen.add(kind)
                if findings:
                    break
        for kind, alarms in found.items():
            told(f"{kind}: {new:.0%} of a new topic, {windows} windows", alarms, runs, "questions")


def t_test(values: Iterator[float], most: int) -> int | None:
    """The newest 200 against the first 200, after every 50."""
    seen: list[float] = []
    for number, value in enumerate(values, start=1):
        seen.append(value)
        if number < 400 or number % 50:
            if number >= most:
                return None
            continue
        old, new = seen[:200], seen[-200:]
        error = math.sqrt(pvariance(old) / 200 + pvariance(new) / 200)
        if error and (fmean(old) - fmean(new)) / error > _Z:
            return number - 200
    return None


def ours(values: Iterator[float], most: int) -> int | None:
    """The product's detector; values after the first that say what is usual."""
    state: dict[str, object] = {}
    for number, value in enumerate(values):
        if number >= most:
            return None
        state, finding = watch_values(
            state, [(str(number), value)], spec=SPEC, worse="below", kind="score_drift", subject="m"
        )
        if finding is not None:
            return number + 1 - SPEC.reference
    return None


def good(draw: random.Random, rate: float, after: float, change: int) -> Iterator[float]:
    """Answers that are good at a rate, and at another one from some time on."""
    number = 0
    while True:
        yield float(draw.random() < (rate if number < change else after))
        number += 1


def scores(seed: int, runs: int) -> None:
    """Values until an alarm, counted from the change, which comes 1,000 values after the reference."""
    rules: dict[str, Callable[[Iterator[float], int], int | None]] = {
        "t-test of windows": t_test,
        "change detector": ours,
    }
    for after in (0.9, 0.87, 0.8, 0.7, 0.5):
        for rule, watched in rules.items():
            begins = SPEC.reference + 1000
            alarms, early = [], 0
            for run in range(runs):
                draw = random.Random(f"{seed}:{run}")
                at = watched(good(draw, 0.9, after, begins), 6_200)
                if at is not None and after != 0.9 and at <= 1000:
                    early += 1
                elif at is not None:
                    alarms.append(at if after == 0.9 else at - 1000)
            name = f"{rule}: .9, then {after:.2f}" if after != 0.9 else f"{rule}: .9 for 6,000 values"
            told(name + (f" ({early} alarmed before)" if early else ""), alarms, runs, "values")


def canaries(seed: int, runs: int) -> None:
    """Rounds of five prompts until an alarm; five rounds say how much answers differ by themselves."""
    canary = SPEC.model_copy(update={"margin": 0.05})
    for moved in (0.0, 0.1, 0.2, 0.5):
        alarms: list[int] = []
        for run in range(runs):
            draw = random.Random(f"{seed}:{run}")
            state: dict[str, object] = {}
            for number in range(1, 401):
                beyond = moved if number > 30 else 0.0
                # Three answers of four are the same each time.
                values = [
                    ("t", min(1.0, (draw.betavariate(2, 20) if draw.random() < 0.25 else 0.0) + beyond))
                    for _ in range(5)
                ]
                state, finding = watch_values(
                    state, values, spec=canary, worse="above", kind="canary", subject="m", usual=25
                )
                if finding is not None:
                    alarms.append(number - (30 if moved else 0))
                    break
        told(f"canaries: distances {moved:+.1f} from round 31 on, 400 rounds", alarms, runs, "rounds")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--only", choices=["inputs", "scores", "canaries"])
    given = parser.parse_args()
    for name, simulated in (("scores", scores), ("canaries", canaries), ("inputs", inputs)):
        if given.only in {None, name}:
            simulated(given.seed, given.runs)


if __name__ == "__main__":
    main()
