"""How often is a cheap way that is worse taken by advice, and one that is as good? Simulated answers, real tests.

Run: python -m benchmarks.advice [--runs 300] [--cases 200]
"""

from __future__ import annotations

import argparse
import random

from interlock.evals.comparing import Beside
from interlock.evals.gate.evidence import Measured
from interlock.evals.matrix.contrasts import contrast
from interlock.evals.tally import CaseInfo, MetricValues
from interlock.stats.intervals import wilson

MARGIN = 0.05


def run_of(name: str, values: list[float]) -> Beside:
    """Answers that are right (1) or not (0), a case each."""
    cases = {f"c{n}": CaseInfo(f"c{n}", f"case:c{n}", "", {}, f"d{n}") for n in range(len(values))}
    told = MetricValues(values={f"c{n}": [value] for n, value in enumerate(values)})
    return Beside(name, name, cases, {"right": Measured("right", "binary", "higher", told)})


def taken(chance: random.Random, cases: int, *, dear: float, cheap: list[float], together: float) -> list[bool]:
    """Of each cheap way, whether it would be taken for as good as the dear one.

    Args:
        dear, cheap: shares of right answers.
        together: how much both lean on how hard a case is, 0 to 1.
    """

    def answers(share: float, hard: list[float]) -> list[float]:
        return [float((together * h + (1 - together) * chance.random()) < share) for h in hard]

    # With `together` of 0 and 1 the shares are exact; between them both are moved alike.
    hard = [chance.random() for _ in range(cases)]
    best = run_of("dear", answers(dear, hard))
    verdicts = []
    for share in cheap:
        found = contrast(run_of("cheap", answers(share, hard)), best, "right", margin=MARGIN, alpha=0.05 / len(cheap))
        verdicts.append(found.verdict in {"better", "as good"})
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--cases", type=int, default=200)
    given = parser.parse_args()
    print(f"{given.runs} runs of {given.cases} cases, margin {MARGIN}")
    for told, dear, cheap, together in (
        ("one cheap way, worse by the margin", 0.90, [0.85], 0.0),
        ("five cheap ways, all worse by the margin", 0.90, [0.85] * 5, 0.0),
        ("one cheap way, worse by the margin, same hard cases", 0.90, [0.85], 1.0),
        ("one cheap way, as good", 0.90, [0.90], 0.0),
        ("one cheap way, as good, same hard cases", 0.90, [0.90], 1.0),
    ):
        chance = random.Random(7)
        hits = sum(
            any(taken(chance, given.cases, dear=dear, cheap=cheap, together=together)) for _ in range(given.runs)
        )
        low, high = wilson(hits, given.runs)
        print(f"{told:<55} taken {hits / given.runs:6.1%}  [{low:.1%}, {high:.1%}]")


if __name__ == "__main__":
    main()
