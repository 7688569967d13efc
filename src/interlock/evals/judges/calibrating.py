"""Let a judge say what people have said already, and write down how far it agrees: the licence it gates by."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import anyio

from interlock.core.clock import now
from interlock.core.errors import InvalidInput
from interlock.evals.judges.asking import Unreadable, Verdict, compare, rate
from interlock.evals.judges.labels import LabelledAnswer, LabelledPair, labels_digest
from interlock.evals.judges.licence import Licence
from interlock.evals.judges.spec import JudgeSpec, identity
from interlock.evals.ports import AskJudge
from interlock.stats.agreement import cohen_kappa
from interlock.stats.intervals import Interval, wilson

__all__ = ["Calibration", "calibrate", "human_agreement", "longest_wins"]

_DRAWS = 1000
_SEED = 7
_REPEATED = 0.2
"""Share of single answers that are judged a second time."""
_REPEAT_SLACK = 1e-9
Side = Literal["first", "second", "tie"]
L = TypeVar("L")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Calibration:
    """A licence and what it was drawn from."""

    licence: Licence
    verdicts: tuple[tuple[str, str, str], ...]
    """Of each label its id, what people say and what the judge says; ``unreadable`` where it did not say anything."""


async def calibrate(
    spec: JudgeSpec,
    labels: Sequence[LabelledPair | LabelledAnswer],
    ask: AskJudge,
    *,
    model: str,
    label_file: str,
    concurrency: int = 8,
    report: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Judge every label. Costs one call an answer and model, two a pair.

    Args:
        model: that the run names, for judges without models of their own.
        report: told how many are done of how many.

    Raises: InvalidInput: labels of the other sort; what the model's call raises.
    """
    pairs = [each for each in labels if isinstance(each, LabelledPair)]
    answers = [each for each in labels if isinstance(each, LabelledAnswer)]
    if (spec.kind == "pairwise") != bool(pairs):
        wanted = "pairs" if spec.kind == "pairwise" else "single answers with labels"
        raise InvalidInput(f"a {spec.kind} judge is calibrated on {wanted}", param="labels")
    if spec.kind == "reference" and any(each.reference is None for each in answers):
        raise InvalidInput("a reference judge is calibrated on answers with `expected`", param="labels")

    async def judge_pair(pair: LabelledPair) -> Verdict:
        return await compare(spec, ask, question=pair.question, first=pair.first, second=pair.second)

    async def judge_answer(each: LabelledAnswer) -> Verdict:
        return await rate(
            spec,
            ask,
            question=each.question,
            answer=each.answer,
            reference=each.reference if spec.kind == "reference" else None,
            context=each.context,
        )

    if pairs:
        verdicts = await _all(pairs, judge_pair, concurrency, report)
        return _of_pairs(spec, pairs, verdicts, model, label_file)
    again = answers[: max(1, round(_REPEATED * len(answers)))]
    both = await _all([*answers, *again], judge_answer, concurrency, report)
    return _of_answers(spec, answers, both[: len(answers)], both[len(answers) :], model=model, label_file=label_file)


async def _all(
    items: Sequence[L],
    judge: Callable[[L], object],
    concurrency: int,
    report: Callable[[int, int], None] | None,
) -> list[Verdict | None]:
    """A verdict an item, in order; None where the judge did not keep to the form."""
    found: list[Verdict | None] = [None] * len(items)
    waiting = iter(enumerate(items))
    done = 0

    async def work() -> None:
        nonlocal done
        for at, item in waiting:
            try:
                found[at] = await judge(item)  # type: ignore[misc]  # each of the two gives a verdict
            except Unreadable:
                found[at] = None
            done += 1
            if report is not None:
                report(done, len(items))

    async with anyio.create_task_group() as group:
        for _ in range(concurrency):
            group.start_soon(work)
    return found


def _side(value: float) -> Side:
    return "tie" if 0.25 < value < 0.75 else "first" if value >= 0.75 else "second"


def _of_pairs(
    spec: JudgeSpec, pairs: Sequence[LabelledPair], verdicts: Sequence[Verdict | None], model: str, label_file: str
) -> Calibration:
    people = [pair.label for pair in pairs]
    told: list[str] = ["unreadable" if verdict is None else _side(verdict.value) for verdict in verdicts]
    readable = [verdict for verdict in verdicts if verdict is not None]
    longer = [_longer(pair) for pair in pairs]
    judged_longer = sum(side == long and long != "tie" for side, long in zip(told, longer, strict=True))
    people_longer = sum(side == long and long != "tie" for side, long in zip(people, longer, strict=True))
    groups = [pair.group or pair.id for pair in pairs]
    licence = _licence(
        spec,
        pairs,
        people=people,
        told=told,
        groups=groups,
        model=model,
        label_file=label_file,
        cost_nano=sum(verdict.cost_nano for verdict in readable),
        swap=None if not readable else sum(not verdict.flipped for verdict in readable) / len(readable),
        repeat=None,
        length_bias=(judged_longer - people_longer) / len(pairs),
        floor=longest_wins(pairs),
    )
    return Calibration(licence, tuple(zip((pair.id for pair in pairs), people, told, strict=True)))


def _of_answers(
    spec: JudgeSpec,
    answers: Sequence[LabelledAnswer],
    verdicts: Sequence[Verdict | None],
    again: Sequence[Verdict | None],
    *,
    model: str,
    label_file: str,
) -> Calibration:
    steps = 1 if spec.passes_at is not None else spec.scale - 1
    people = [str(round(each.label * steps)) for each in answers]
    told = ["unreadable" if verdict is None else str(round(verdict.value * steps)) for verdict in verdicts]
    readable = [verdict for verdict in verdicts if verdict is not None]
    twice = [(a, b) for a, b in zip(verdicts, again, strict=False) if a is not None and b is not None]
    both = [(each, verdict) for each, verdict in zip(answers, verdicts, strict=True) if verdict is not None]
    licence = _licence(
        spec,
        answers,
        people=people,
        told=told,
        groups=[each.group or each.id for each in answers],
        model=model,
        label_file=label_file,
        cost_nano=sum(verdict.cost_nano for verdict in readable),
        swap=None,
        repeat=None if not twice else sum(abs(a.value - b.value) < _REPEAT_SLACK for a, b in twice) / len(twice),
        length_bias=_rank_correlation([(len(a.answer), v.value - a.label) for a, v in both]),
        floor=None,
    )
    return Calibration(licence, tuple(zip((each.id for each in answers), people, told, strict=True)))


def _licence(
    spec: JudgeSpec,
    labels: Sequence[LabelledPair | LabelledAnswer],
    *,
    people: Sequence[str],
    told: Sequence[str],
    groups: Sequence[str],
    model: str,
    label_file: str,
    cost_nano: int,
    swap: float | None,
    repeat: float | None,
    length_bias: float | None,
    floor: float | None,
) -> Licence:
    agreed = sum(a == b for a, b in zip(people, told, strict=True))
    ordinal = spec.kind != "pairwise" and spec.passes_at is None and spec.scale > 2
    return Licence(
        judge=spec.judge,
        identity=identity(spec, model),
        kind=spec.kind,
        models=tuple(spec.asks(model)),
        labels=labels_digest(list(labels)),
        label_file=label_file,
        count=len(labels),
        unreadable=sum(each == "unreadable" for each in told),
        agreement=agreed / len(labels),
        agreement_interval=wilson(agreed, len(labels)),
        kappa=_kappa(people, told, spec.scale if ordinal else None),
        kappa_interval=_kappa_interval(people, told, groups, spec.scale if ordinal else None),
        swap_consistency=swap,
        repeat_consistency=repeat,
        length_bias=length_bias,
        floor=floor,
        cost_nano=cost_nano,
        at=now(),
    )


def _kappa(people: Sequence[str], told: Sequence[str], points: int | None) -> float:
    """Of ordered points with quadratic weights; one that is unreadable is no point, but a label of its own."""
    if points is None or "unreadable" in told:
        return cohen_kappa(people, told)
    return cohen_kappa(people, told, order=[str(each) for each in range(points)], weights="quadratic")


def _kappa_interval(people: Sequence[str], told: Sequence[str], groups: Sequence[str], points: int | None) -> Interval:
    """95 % percentile bootstrap over groups. The same labels always give the same interval."""
    members: dict[str, list[int]] = {}
    for at, group in enumerate(groups):
        members.setdefault(group, []).append(at)
    pools = list(members.values())
    chance = random.Random(_SEED)  # noqa: S311 - resampling, no secret
    drawn = []
    for _ in range(_DRAWS):
        rows = [at for pool in chance.choices(pools, k=len(pools)) for at in pool]
        drawn.append(_kappa([people[at] for at in rows], [told[at] for at in rows], points))
    drawn.sort()
    return Interval(drawn[int(0.025 * _DRAWS)], drawn[int(0.975 * _DRAWS)])


def _longer(pair: LabelledPair) -> Side:
    return "tie" if len(pair.first) == len(pair.second) else "first" if len(pair.first) > len(pair.second) else "second"


def longest_wins(pairs: Sequence[LabelledPair]) -> float:
    """How often "the longer answer is better" agrees with people: what a judge has to beat.

    Of two answers of one length it takes the second.
    """
    chosen = ["first" if len(pair.first) > len(pair.second) else "second" for pair in pairs]
    return sum(side == pair.label for side, pair in zip(chosen, pairs, strict=True)) / len(pairs)


def human_agreement(pairs: Sequence[LabelledPair]) -> list[tuple[int, int, float, float]]:
    """How far people agree among themselves: of each two raters (by position, from 1) agreement and Cohen's kappa."""
    count = min(len(pair.raters) for pair in pairs)
    found = []
    for a in range(count):
        for b in range(a + 1, count):
            ours, theirs = [pair.raters[a] for pair in pairs], [pair.raters[b] for pair in pairs]
            same = sum(x == y for x, y in zip(ours, theirs, strict=True)) / len(pairs)
            found.append((a + 1, b + 1, same, cohen_kappa(ours, theirs)))
    return found


def _rank_correlation(points: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's, ties sharing their ranks; None where one side never varies."""
    if len(points) < 3:
        return None
    xs, ys = _ranks([x for x, _ in points]), _ranks([y for _, y in points])
    mean = (len(points) + 1) / 2
    top = math.fsum((x - mean) * (y - mean) for x, y in zip(xs, ys, strict=True))
    scatter = [math.sqrt(math.fsum((v - mean) ** 2 for v in side)) for side in (xs, ys)]
    return None if not all(scatter) else top / (scatter[0] * scatter[1])


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=lambda at: values[at])
    ranks = [0.0] * len(values)
    at = 0
    while at < len(order):
        end = at
        while end + 1 < len(order) and values[order[end + 1]] == values[order[at]]:
            end += 1
        for place in order[at : end + 1]:
            ranks[place] = (at + end) / 2 + 1
        at = end + 1
    return ranks
