"""From which probability an app should answer, so that a stated share of what cannot be answered is declined.

The threshold is an order statistic of the unanswerable questions' probabilities (split conformal prediction): for
questions like those of the set, the expected share answered although nothing answers them is at most the rate asked
for, whatever the distribution. The answerable questions have no part in the choice, so their figure is not flattered
by it.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.release import Release
from interlock.flows.parts import Parts
from interlock.knowledge.grounding.types import AnswerSpec
from interlock.knowledge.release import RetrievalSpec
from interlock.stats.intervals import Interval, clopper_pearson, wilson

__all__ = ["Assessed", "LabelledQuestion", "Threshold", "assessed", "propose", "read_labelled"]

_LONGEST = 64 * 1024 * 1024
_STEPS = 10_000
"""Thresholds are whole ten-thousandths."""


class LabelledQuestion(BaseModel):
    """One line of the set. Cases of a golden set are read as well: other fields are left alone."""

    model_config = ConfigDict(extra="ignore")

    question: str = Field(min_length=1, max_length=4_000)
    answerable: bool
    user: str | None = Field(default=None, alias="as", max_length=128)


@dataclass(frozen=True, slots=True)
class Assessed:
    """One question and how probable it is, for the app, that its documents answer it."""

    answerable: bool
    probability: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """What is proposed for `answer.min_answerability`."""

    value: float
    interval: Interval
    """Where the threshold lies that meets the rate exactly, 95 %: an interval of order statistics."""
    rate: float
    """The share of false answers asked for."""
    unanswerable: int
    answerable: int
    false_answers: float
    """Share of the set's unanswerable questions that it answers."""
    false_interval: Interval
    answered: float
    """Share of the answerable questions that it answers."""
    answered_interval: Interval
    now: float
    """The app's present threshold, and what it does on the same questions."""
    now_false_answers: float
    now_answered: float


def read_labelled(path: Path) -> list[LabelledQuestion]:
    """Questions of a JSONL file. Raises: InvalidInput naming the line."""
    if path.stat().st_size > _LONGEST:
        raise InvalidInput(f"{path.name!r} is larger than {_LONGEST // 2**20} MiB", param="questions")
    found: list[LabelledQuestion] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(LabelledQuestion.model_validate(json.loads(line)))
        except (ValueError, ValidationError) as error:
            raise InvalidInput(
                f"line {number} of {path.name!r} is no labelled question",
                param=f"line {number}",
                hint='one object a line: {"question": "…", "answerable": true, "as": "ada"}',
            ) from error
    return found


async def assessed(
    parts: Parts, release: Release, questions: Sequence[LabelledQuestion], *, asker: Callable[[str | None], Context]
) -> AsyncIterator[Assessed]:
    """Search and assess every question as the app would, without writing an answer. No model call.

    Raises: NotFound: what the app searches does not exist, or was never ingested.
    """
    retrieval = RetrievalSpec.model_validate(release.components["retrieval"], extra="ignore")
    await parts.knowledge.check_ingested(asker(None), retrieval.collection)
    spec = AnswerSpec.of_release(release.components.get("answer", {}))
    for question in questions:
        ctx = asker(question.user)
        found = await parts.knowledge.search(
            ctx,
            question.question,
            collection=retrieval.collection,
            limit=retrieval.limit,
            mode=retrieval.search,
            fusion=retrieval.fusion,
        )
        passages = await parts.guardrails.check_passages(ctx, release, found)
        selection = await parts.grounding.select(ctx, question.question, passages, spec)
        probability = parts.grounding.assess(question.question, selection).probability if selection.evidence else 0.0
        yield Assessed(question.answerable, probability)


def propose(found: Sequence[Assessed], *, rate: float, now: float) -> Threshold:
    """The lowest threshold that promises at most `rate` false answers.

    Args:
        rate: share of unanswerable questions that may be answered, above 0 and below 1.
        now: the app's present threshold.

    Raises: InvalidInput: there are too few questions to promise that.
    """
    if not 0 < rate < 1:
        raise InvalidInput("a share of false answers lies between 0 and 1", param="--false-answers")
    against = sorted(one.probability for one in found if not one.answerable)
    fitting = [one.probability for one in found if one.answerable]
    fewest = max(1, math.ceil(1 / rate - 1e-9) - 1)
    if len(against) < fewest or not fitting:
        raise InvalidInput(
            f"{len(against)} unanswerable and {len(fitting)} answerable questions cannot promise a share of {rate:g}",
            param="questions",
            hint=f"give at least {fewest} unanswerable questions and one answerable one, or a higher --false-answers",
        )
    # The k-th smallest of n: a new question of the kind lies above it with probability (n + 1 - k) / (n + 1).
    rank = math.ceil((len(against) + 1) * (1 - rate) - 1e-9)
    value = _above(against[rank - 1])
    wrong = sum(p >= value for p in against)
    right = sum(p >= value for p in fitting)
    return Threshold(
        value,
        _quantile_interval(against, rank),
        rate,
        len(against),
        len(fitting),
        wrong / len(against),
        clopper_pearson(wrong, len(against)),
        right / len(fitting),
        wilson(right, len(fitting)),
        now,
        sum(p >= now for p in against) / len(against),
        sum(p >= now for p in fitting) / len(fitting),
    )


def _above(probability: float) -> float:
    """The next threshold that declines it."""
    return min(1.0, (math.floor(probability * _STEPS) + 1) / _STEPS)


def _quantile_interval(ordered: Sequence[float], rank: int) -> Interval:
    """Between which thresholds the true one lies, by the binomial interval of its rank; no distribution assumed."""
    share = clopper_pearson(rank, len(ordered))
    low = max(1, math.floor(share.low * len(ordered)))
    high = min(len(ordered), math.ceil(share.high * len(ordered)) + 1)
    return Interval(_above(ordered[low - 1]), _above(ordered[high - 1]))
