"""Interleaving beside an A/B test: how many people it takes to see that one search finds more.

    python -m benchmarks.interleaving [--runs 300] [--seed 11]

Each question has one passage that answers it; the better search has it among its first five more often. A person asks
one to five questions. *Interleaved*, both searches' passages are drafted into one list of five by the product's own
draft and the answer cites the passage if it is there; *A/B*, each person has one search, and what is measured is the
share of their questions that is answered. Both are judged by the product's own sequences at .05, after every 25 people,
up to 4,000 (of an A/B test 2,000 an arm). With equal searches what is counted is false alarms.
"""

from __future__ import annotations

import argparse
import random
from statistics import median
from typing import NamedTuple

from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Citation, Passage, Span
from interlock.knowledge.retrieval.interleaving import credit, team_draft
from interlock.stats.intervals import Interval, wilson
from interlock.stats.sequential import Moments, always_valid_p, gap_between, mean_gap

PEOPLE, EVERY, LIMIT, ALPHA = 4000, 25, 5, 0.05


def passage(n: int) -> Passage:
    return Passage(PassageId(f"p{n}"), DocumentId(f"d{n}"), "", "", "", "", "", Span(0, 10))


POOL = [passage(n) for n in range(40)]
RIGHT = POOL[0]
CITED = Citation(1, RIGHT.id, RIGHT.document_id, "", "", "", None, Span(2, 8), "", "supported", 1.0)


class World(NamedTuple):
    """Two searches."""

    control: float
    """How often the right passage is among the first five."""
    variant: float
    alike: float
    """How often the two agree on whether it is."""


def found(draw: random.Random, world: World) -> tuple[bool, bool]:
    """Whether each search has the right passage: alike in some questions, by chance of their own in the others."""
    if draw.random() < world.alike:
        at = draw.random()
        return at < world.control, at < world.variant
    return draw.random() < world.control, draw.random() < world.variant


def ranking(draw: random.Random, *, has: bool) -> list[Passage]:
    """Five passages; the right one anywhere among them, or nowhere."""
    ranked = draw.sample(POOL[1:20], LIMIT)
    if has:
        ranked[draw.randrange(LIMIT)] = RIGHT
    return ranked


def interleaved(draw: random.Random, world: World) -> int | None:
    """People at which a preference is proven."""
    seen = Moments()
    for person in range(1, PEOPLE + 1):
        questions = draw.randint(1, 5)
        total = 0.0
        for _ in range(questions):
            has = found(draw, world)
            drafted = team_draft(ranking(draw, has=has[0]), ranking(draw, has=has[1]), limit=LIMIT, draw=draw)
            won = credit(drafted, [CITED] if RIGHT in drafted.passages else [])
            total += (won.variant > won.control) - (won.control > won.variant)
        seen.add(total / questions)
        if person % EVERY == 0 and person >= 50:
            gap = mean_gap(seen, within=Interval(-1, 1))
            if always_valid_p(gap, ALPHA, tightest_at=1000) <= ALPHA:
                return person
    return None


def apart(draw: random.Random, world: World) -> int | None:
    """People of both arms at which a difference is proven."""
    arms = Moments(), Moments()
    for person in range(1, PEOPLE + 1):
        arm = person % 2
        questions = draw.randint(1, 5)
        arms[arm].add(sum(found(draw, world)[arm] for _ in range(questions)) / questions)
        if person % EVERY == 0 and person >= 100:
            gap = gap_between(arms[1], arms[0], within=Interval(0, 1))
            if always_valid_p(gap, ALPHA, tightest_at=1000) <= ALPHA:
                return person
    return None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    for world in (World(0.7, 0.7, 0.6), World(0.7, 0.75, 0.6), World(0.7, 0.8, 0.6), World(0.7, 0.75, 0.9)):
        for name, rule in (("interleaved", interleaved), ("A/B", apart)):
            ends = [at for _ in range(given.runs) if (at := rule(draw, world)) is not None]
            low, high = wilson(len(ends), given.runs)
            when = f"median {median(ends):.0f} people" if ends else ""
            share = f"{100 * len(ends) / given.runs:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
            told = f"{world.control:.2f} against {world.variant:.2f}, alike {world.alike:.1f}"
            print(f"{told}  {name:<12} {share:<22} {when}", flush=True)


if __name__ == "__main__":
    main()
