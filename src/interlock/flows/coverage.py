"""Which of what people ask an app's cases cover, and cases to propose where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ports import Embedder
from interlock.evals.formats import formats
from interlock.evals.metrics import metrics
from interlock.evals.metrics._embedding import beginning
from interlock.evals.monitoring.intents import Asked, Intent, intents_of
from interlock.evals.monitoring.types import Sample
from interlock.evals.ports import Metric
from interlock.evals.review.types import Item
from interlock.evals.suite import read_suite
from interlock.evals.synthetic.curating import queue_for
from interlock.evals.types import Case, Provenance, Turn
from interlock.flows.evaluation_instruments import detectors
from interlock.flows.parts import Parts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Coverage", "coverage", "coverage_view", "propose", "suites_of"]

_MOST = 20_000
_FEWEST = 5
"""Questions from which there is something to group."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is asked, and what is tested of it."""

    app: str
    source: str
    """``samples``, or the file that the questions are of."""
    days: float
    questions: int
    without_text: int
    """Samples of the time whose text is no longer kept: they are not counted."""
    cases: int
    near_case: float
    """Share of the questions that a case asks too."""
    intents: Sequence[Intent]
    samples: Sequence[Sample] = ()
    """In the order of the intents' rows."""


# Any: JSON on its way out.
def coverage_view(found: Coverage, *, limit: int) -> dict[str, Any]:
    """What is asked and tested, with the first `limit` intents."""
    told = asdict(found)
    del told["samples"]
    told["intents"] = [
        {**asdict(each), "covered": each.covered, "drifting": each.drifting} for each in found.intents[:limit]
    ]
    for each in told["intents"]:
        del each["middle"]
    return {**told, "intents_in_all": len(found.intents)}


def suites_of(folder: Path) -> list[Path]:
    """The suites beside an app's file."""
    return sorted({*folder.glob("evals/*.yaml"), *folder.glob("evals/*.yml")})


async def coverage(
    parts: Parts,
    ctx: Context,
    app: str,
    *,
    suites: Sequence[Path],
    days: float = 30.0,
    questions: Path | None = None,
) -> Coverage:
    """Group what was asked, and look for a case near each question. Needs the role developer, operator or risk.

    Args:
        suites: whose cases cover; sealed cases count, and are named by their id alone.
        days: how far back samples are looked at.
        questions: a file of cases or questions that are looked at in place of samples.

    Raises: Forbidden; NotFound: no such app, or nothing is sampled of it; InvalidInput: a suite or the file is wrong.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR, Role.RISK)
    name = parts.releases.source(app, ctx).name
    samples: list[Sample] = []
    without_text = 0
    if questions is not None:
        asked = _read(questions)
    else:
        found = await parts.monitors.samples(ctx, name, since=now() - timedelta(days=days), limit=_MOST)
        samples = [sample for sample in found if sample.content is not None]
        without_text = len(found) - len(samples)
        asked = [_asked(parts, sample) for sample in samples]
    if len(asked) < _FEWEST:
        raise NotFound(
            f"there are {len(asked)} questions of {name!r} to look at; it takes {_FEWEST}",
            param="app",
            hint="set monitor.share (and keep_days above 0) in its app.yaml and wait for traffic, or give --questions",
        )
    cases: list[Case] = []
    for place in suites:
        cases += read_suite(place).cases
    embedder = parts.knowledge.embedder
    vectors = await _vectors(embedder, [each.text for each in asked], samples)
    case_vectors = await _vectors(embedder, [case.question for case in cases], ())
    ids = [case.id for case in cases]
    intents = await to_thread.run_sync(intents_of, asked, vectors, ids, case_vectors)
    near = sum(each.near_case * each.count for each in intents) / len(asked)
    source = "samples" if questions is None else questions.name
    return Coverage(name, source, days, len(asked), without_text, len(cases), near, intents, samples)


def _asked(parts: Parts, sample: Sample) -> Asked:
    assert sample.content is not None, "asked for where there is text"
    output = sample.content.output
    poor: bool | None = output.get("outcome") in {"declined", "refused"}
    if not poor:
        told = [_oriented(metric, value) for metric, value in (sample.scores or {}).items()]
        known = [value for value in told if value is not None]
        poor = None if not known else min(known) < 0.5
    return Asked(sample.content.turns[-1]["content"], sample.id, sample.at, poor)


def _oriented(name: str, value: float) -> float | None:
    """Higher is better; None for seconds, tokens and money, and for a metric under a name of its own."""
    if name not in metrics.names():
        return value
    metric = metrics.get(name)
    if not isinstance(metric, Metric) or metric.scale == "real":
        return None
    return value if metric.better == "higher" else 1 - value


def _read(place: Path) -> list[Asked]:
    form = {".csv": "csv", ".parquet": "parquet"}.get(place.suffix.lower(), "jsonl")
    if not place.is_file():
        raise NotFound(f"there is no file {place.name!r}", param="questions")
    found = []
    for where, fields in formats.get(form).read(place):
        told = fields.get("input") or fields.get("question") or fields.get("query")
        if not isinstance(told, str) or not told.strip():
            raise InvalidInput(f"{where} of {place.name!r} has no input", param="questions")
        found.append(Asked(told, "", None, None))
    return found


async def _vectors(embedder: Embedder, texts: Sequence[str], samples: Sequence[Sample]) -> NDArray[np.float32]:
    """Of the samples that have one the stored vector, if it is of this embedder."""
    import numpy as np

    known = {at: sample.vector for at, sample in enumerate(samples) if sample.vector is not None}
    known = {at: vector for at, vector in known.items() if len(vector) == embedder.dimensions}
    found = np.zeros((len(texts), embedder.dimensions), dtype=np.float32)
    for at, vector in known.items():
        found[at] = vector
    left = [at for at in range(len(texts)) if at not in known]
    if left:
        found[left] = await embedder.embed([beginning(embedder, texts[at]) for at in left], "query")
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return found


def _impersonal(text: str) -> str:
    """The text with what the detectors find written as its kind: ``[email]``."""
    known = detectors()
    found = sorted(
        (each for name in ("pii", "secrets") for each in known[name].find(text)),
        key=lambda each: (each.start, -each.end),
    )
    told, at = "", 0
    for each in found:
        if each.start >= at:
            told += f"{text[at : each.start]}[{each.kind}]"
            at = each.end
    return told + text[at:]


async def propose(parts: Parts, ctx: Context, found: Coverage, queue: str, *, count: int) -> int:
    """Put the middle question of the first `count` uncovered intents before people; gives how many are new there.

    They come without a reference: whoever accepts one says that it is worth testing, not what is right. Numbers and
    addresses of persons, and secrets, that the detectors of guardrails know are taken out: reviewers may see less than
    who reads samples, and suites are files.
    Raises: Forbidden; InvalidInput: the questions are of a file.
    """
    if not found.samples:
        raise InvalidInput("questions of a file are cases already: add the file to the suite", param="propose")
    if queue not in {spec.queue for spec in await parts.reviews.queues(ctx)}:
        await parts.reviews.create(ctx, queue_for(queue))
    items = []
    for intent in [each for each in found.intents if not each.covered][:count]:
        sample = found.samples[intent.middle]
        assert sample.content is not None, "samples without text are left out"
        turns = [
            turn.model_copy(update={"content": _impersonal(turn.content)})
            for turn in map(Turn.model_validate, sample.content.turns)
        ]
        case = Case(
            id=f"traffic-{sample.id[:16]}",
            input=turns[0].content if len(turns) == 1 else turns,
            tags=["coverage"],
            provenance=Provenance(kind="trace", ref=sample.id, by=ctx.principal.id),
            metadata={"text_digests": {}},
        )
        items.append(
            Item(
                id=case.id,
                question=case.question,
                answer=_impersonal(str(sample.content.output.get("text", ""))[:100_000]),
                origin=f"coverage:{found.app}",
                asker=sample.asker,
                documents=list(sample.documents),
                case=case.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            )
        )
    return await parts.reviews.add(ctx, queue, items)
