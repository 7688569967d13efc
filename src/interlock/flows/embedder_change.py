"""A collection goes over to another embedder: built beside, compared, switched, and the old space dropped.

Each step is a durable job under the collection's key, so that none meets an ingest; a switch and a drop are audited.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.trace import Span
from interlock.evals.judged import JudgedQuestion
from interlock.flows.cache import purge_cache
from interlock.flows.embedder_views import comparison_view, status_view
from interlock.flows.ingest import enqueue_alone, run_as_job, succeeded
from interlock.flows.parts import Parts
from interlock.flows.questions import judged_of
from interlock.flows.retrieval_eval import ScoredQuestion, scored
from interlock.gateway.cache.types import Purge
from interlock.knowledge.ports import ReportProgress
from interlock.knowledge.retrieval.settings import RetrievalSteps
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.sources import SourceSpec
from interlock.knowledge.spaces.types import BuildReport, SpacesStatus
from interlock.knowledge.types import HEADING_SEPARATOR, Progress, SearchMode
from interlock.stats.bootstrap import mean_interval, paired_interval
from interlock.stats.intervals import Interval
from interlock.stores.jobs.base import Job

__all__ = [
    "TITLES",
    "SpaceComparison",
    "SpaceFigure",
    "accepted_questions",
    "compare_spaces",
    "enqueue_build",
    "enqueue_compare",
    "enqueue_drop",
    "enqueue_switch",
    "run_build",
    "run_change",
    "run_drop",
    "run_switch",
]

_CUT = 10
TITLES = 100
_MOST_QUESTIONS = 500
_SEARCH_S = 60.0
_SEED = 7
_LONGEST = 500
"""Characters of a heading that is searched."""


@dataclass(frozen=True, slots=True)
class SpaceFigure:
    """One measure in both spaces, on the same questions."""

    name: str
    answers: float
    """Mean in the space that answers."""
    beside: float
    gain: float
    """`beside` minus `answers`."""
    interval: Interval
    """Of the gain, 95 %, paired bootstrap over the questions."""


@dataclass(frozen=True, slots=True)
class SpaceComparison:
    """Two spaces of one collection."""

    collection: str
    answers: str
    beside: str
    questions: int
    """With known answers; 0 without a set."""
    figures: tuple[SpaceFigure, ...]
    """Of those questions, as answers are searched."""
    titles: int
    """Titles and headings of sampled passages that were searched."""
    overlap: dict[str, tuple[float, Interval]]
    """Share of the first ten passages that both spaces find, by search mode."""
    own: tuple[SpaceFigure, ...]
    """How often a title finds its own document among the first ten, by search mode."""
    search_ms: dict[str, tuple[float, float]]
    """Median and 95th percentile of a search by meaning alone, its question embedded: answers, beside."""
    size_bytes: dict[str, int]
    passages: dict[str, int] = field(default_factory=dict)


async def enqueue_build(parts: Parts, ctx: Context, collection: str, *, worker: str | None = None) -> Job:
    """Ask for the space of the embedder that the settings name to be built; `worker` as of `Jobs.enqueue`.

    Raises: Forbidden, NotFound, Conflict.
    """
    await parts.knowledge.spaces.may_build(ctx, collection)
    return await enqueue_alone(parts, ctx, collection, {"collection": collection, "embedder": "build"}, worker=worker)


async def enqueue_compare(
    parts: Parts, ctx: Context, collection: str, *, limit: int | None = None, titles: int = TITLES
) -> Job:
    """Ask for both spaces to be compared by the first `limit` accepted questions, or all, and by `titles` titles.

    Raises: Forbidden, NotFound: there is one only; Conflict.
    """
    await parts.knowledge.spaces.other(ctx, collection)
    payload: dict[str, object] = {"collection": collection, "embedder": "compare", "limit": limit, "titles": titles}
    return await enqueue_alone(parts, ctx, collection, payload)


async def enqueue_switch(parts: Parts, ctx: Context, collection: str, *, worker: str | None = None) -> Job:
    """Ask for the other space to answer; `worker` as of `Jobs.enqueue`.

    Raises: Forbidden, NotFound, Conflict: it is incomplete, or a run is on.
    """
    other = await parts.knowledge.spaces.may_switch(ctx, collection)
    payload: dict[str, object] = {"collection": collection, "embedder": "switch", "to": other.id}
    return await enqueue_alone(parts, ctx, collection, payload, worker=worker)


async def enqueue_drop(parts: Parts, ctx: Context, collection: str, *, worker: str | None = None) -> Job:
    """Ask for the space that does not answer to be removed; `worker` as of `Jobs.enqueue`.

    Raises: Forbidden, NotFound, Conflict.
    """
    other = await parts.knowledge.spaces.other(ctx, collection)
    payload: dict[str, object] = {"collection": collection, "embedder": "drop", "space": other.id}
    return await enqueue_alone(parts, ctx, collection, payload, worker=worker)


async def run_change(parts: Parts, ctx: Context, job: Job, spec: SourceSpec) -> None:
    """Run a claimed job of this flow, whichever it is. Raises: as `run_build`."""
    what = job.payload["embedder"]
    if what == "build":
        await run_build(parts, ctx, job)
    elif what == "switch":
        await run_switch(parts, ctx, job, spec)
    elif what == "drop":
        await run_drop(parts, ctx, job)
    else:
        await _run_compare(parts, ctx, job)


async def run_build(
    parts: Parts, ctx: Context, job: Job, *, on_progress: Callable[[Progress], None] | None = None
) -> BuildReport:
    """Run a claimed job of a build to its end; what was embedded before a stop stays.

    Raises: Conflict: the lease was lost, or somebody cancelled the job (code ``cancelled``). Anything the build raises,
    after recording it on the job.
    """
    collection = str(job.payload["collection"])

    async def work(inner: Context, note: ReportProgress, span: Span) -> BuildReport:
        report = await parts.knowledge.spaces.build(inner, collection, note)
        span.set({"gen_ai.usage.input_tokens": report.tokens})
        return report

    report = await run_as_job(parts, ctx, job, work, name="embedder build", on_progress=on_progress)
    counts: dict[str, str | int | bool] = {
        "space": report.space,
        "passages": report.passages,
        "embedded": report.embedded,
        "refused": len(report.refused),
        "complete": report.complete,
    }
    await succeeded(parts, ctx, job, action="embedder.build", result=asdict(report), counts=counts)
    return report


async def run_switch(
    parts: Parts,
    ctx: Context,
    job: Job,
    spec: SourceSpec,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> SpacesStatus:
    """Run a claimed job of a switch. Raises: as `run_build`."""
    before = (await parts.knowledge.spaces.status(ctx, spec.collection)).answers.id

    async def work(inner: Context, note: ReportProgress, span: Span) -> SpacesStatus:
        if before == job.payload["to"]:
            # A worker ended between the switch and its note: it is not to be undone.
            return await parts.knowledge.spaces.status(inner, spec.collection)
        return await parts.knowledge.switch_space(inner, spec)

    status = await run_as_job(parts, ctx, job, work, name="embedder switch", on_progress=on_progress)
    # Answers of before were given from the other ranking.
    await purge_cache(parts, ctx, Purge(collection=spec.collection))
    counts: dict[str, str | int | bool] = {"from": before, "to": status.answers.id}
    await succeeded(parts, ctx, job, action="embedder.switch", result=status_view(status), counts=counts)
    return status


async def run_drop(
    parts: Parts, ctx: Context, job: Job, *, on_progress: Callable[[Progress], None] | None = None
) -> str:
    """Run a claimed job of a drop; gives the space that is gone. Raises: as `run_build`."""
    collection, space = str(job.payload["collection"]), str(job.payload["space"])

    async def work(inner: Context, note: ReportProgress, span: Span) -> str:
        status = await parts.knowledge.spaces.status(inner, collection)
        if status.beside is None and status.answers.id != space:
            return space  # by a worker that ended before it said so
        return await parts.knowledge.spaces.drop(inner, collection)

    gone = await run_as_job(parts, ctx, job, work, name="embedder drop", on_progress=on_progress)
    counts: dict[str, str | int | bool] = {"space": gone}
    await succeeded(parts, ctx, job, action="embedder.drop", result={"space": gone}, counts=counts)
    return gone


async def _run_compare(parts: Parts, ctx: Context, job: Job) -> None:
    collection = str(job.payload["collection"])
    # Jobs of earlier versions name neither.
    limit, titles = job.payload.get("limit"), job.payload.get("titles", TITLES)

    async def work(inner: Context, note: ReportProgress, span: Span) -> SpaceComparison:
        questions = await accepted_questions(parts, inner, collection)
        if isinstance(limit, int):
            questions = questions[:limit]
        sample = titles if isinstance(titles, int) else TITLES
        return await compare_spaces(
            parts.knowledge, inner, collection, questions=questions, sample=sample, progress=note
        )

    found = await run_as_job(parts, ctx, job, work, name="embedder compare", on_progress=None)
    counts: dict[str, str | int | bool] = {"questions": found.questions, "titles": found.titles}
    await succeeded(parts, ctx, job, action="embedder.compare", result=comparison_view(found), counts=counts)


async def accepted_questions(parts: Parts, ctx: Context, collection: str) -> list[JudgedQuestion]:
    """What a comparison without a set of its own asks: accepted questions of documents that `ctx` may read; none when
    there are none.
    """
    try:
        found = await judged_of(parts, ctx, collection)
    except NotFound:
        return []
    # It is whoever compares who searches: spaces are compared, and not rights.
    return [replace(one, user=None) for one in found[:_MOST_QUESTIONS]]


async def compare_spaces(
    knowledge: KnowledgeService,
    ctx: Context,
    collection: str,
    *,
    questions: Sequence[JudgedQuestion] = (),
    asker: Callable[[str | None], Context] | None = None,
    named: Callable[[str], str] = str,
    sample: int = TITLES,
    progress: ReportProgress | None = None,
) -> SpaceComparison:
    """Search both spaces of a collection with the same questions, and keep the figures with the newer one. Needs the
    role developer or operator.

    Args:
        ctx: whose readers decide which titles are searched.
        questions: with known answers; without them, rankings are only compared with one another.
        asker: as of `retrieval_eval.scored`, and so is `named`.
        sample: most titles.

    Raises: NotFound: there is one space only; InvalidInput: it holds nothing yet; what a search raises.
    """
    other = await knowledge.spaces.other(ctx, collection)
    status = await knowledge.spaces.status(ctx, collection)
    answers = status.answers.id
    with ctx.span("knowledge.embedder.compare", collection=collection, questions=len(questions)) as (_, inner):
        titles = await _titles(knowledge, inner, collection, sample)
        if not titles and not questions:
            raise InvalidInput(
                f"nothing in {collection!r} that you may read has a title to search with",
                param="collection",
                hint="bring questions with known answers, or ask as somebody who may read it",
            )
        run = _Comparing(knowledge, inner, collection, (answers, other.id), progress, len(questions) + len(titles))
        figures = await run.judged(questions, asker or (lambda _: _fresh(inner)), named)
        overlap, own, times = await run.titled(titles)
    found = SpaceComparison(
        collection,
        answers,
        other.id,
        len(questions),
        tuple(figures),
        len(titles),
        overlap,
        tuple(own),
        {"answers": times[0], "beside": times[1]} if titles else {},
        dict(status.sizes),
    )
    await knowledge.spaces.compared(ctx, collection, other.id, comparison_view(found))
    return found


@dataclass(slots=True)
class _Comparing:
    knowledge: KnowledgeService
    ctx: Context
    collection: str
    spaces: tuple[str, str]
    """Answers, beside."""
    progress: ReportProgress | None
    total: int
    done: int = 0

    async def _tell(self, message: str) -> None:
        self.done += 1
        if self.progress is not None:
            await self.progress(Progress(self.done, self.total, message))

    async def judged(
        self, questions: Sequence[JudgedQuestion], asker: Callable[[str | None], Context], named: Callable[[str], str]
    ) -> list[SpaceFigure]:
        rows: list[list[ScoredQuestion]] = []
        for question in questions:
            pair: list[ScoredQuestion] = []
            for space in self.spaces:
                run = scored(
                    self.knowledge, [question], collection=self.collection, asker=asker, named=named, space=space
                )
                pair += [one async for one in run]
            rows.append(pair)
            await self._tell("questions with known answers")
        if not rows:
            return []
        return [
            _figure(name, [row[0].scores[name] for row in rows], [row[1].scores[name] for row in rows])
            for name in rows[0][0].scores
        ]

    async def titled(
        self, titles: Sequence[tuple[str, str]]
    ) -> tuple[dict[str, tuple[float, Interval]], list[SpaceFigure], list[tuple[float, float]]]:
        modes: tuple[SearchMode, ...] = ("hybrid", "dense")
        shared: dict[str, list[float]] = {mode: [] for mode in modes}
        own: dict[str, tuple[list[float], list[float]]] = {mode: ([], []) for mode in modes}
        times: tuple[list[float], list[float]] = ([], [])
        for document, title in titles:
            for mode in modes:
                found: list[set[str]] = []
                for which, space in enumerate(self.spaces):
                    started = time.perf_counter()
                    passages = await self.knowledge.search(
                        _fresh(self.ctx),
                        title,
                        collection=self.collection,
                        limit=_CUT,
                        mode=mode,
                        steps=RetrievalSteps(),
                        space=space,
                    )
                    if mode == "dense":
                        times[which].append(1000 * (time.perf_counter() - started))
                    found.append({passage.id for passage in passages})
                    own[mode][which].append(float(document in {passage.document_id for passage in passages}))
                most = max(len(each) for each in found)
                shared[mode].append(len(found[0] & found[1]) / most if most else 1.0)
            await self._tell("titles and headings")
        if not titles:
            return {}, [], []
        overlap = {mode: (sum(each) / len(each), mean_interval(each)) for mode, each in shared.items()}
        figures = [_figure(f"own@{_CUT} {mode}", *own[mode]) for mode in modes]
        return overlap, figures, [(median(each), _percentile(each, 0.95)) for each in times]


async def _titles(knowledge: KnowledgeService, ctx: Context, collection: str, sample: int) -> list[tuple[str, str]]:
    """Documents, and the headings of passages of theirs that were sampled; the same ones for the same collection."""
    infos = await knowledge.documents(ctx, collection=collection)
    readable = sorted((info for info in infos if info.passages and info.readers & ctx.readers), key=lambda i: i.id)
    chance = random.Random(_SEED)  # noqa: S311 - sampling, no secret
    chosen = chance.sample(readable, min(sample, len(readable)))
    each = -(-sample // max(1, len(chosen)))
    found: dict[str, str] = {}
    for info in chosen:
        passages = await knowledge.passages(_fresh(ctx), info.id)
        names = {_name(passage.heading) for passage in passages} | {" ".join(info.title.split())[:_LONGEST]}
        # A heading that several documents have is no question for one of them.
        new = sorted(name for name in names if name and name not in found)
        found |= dict.fromkeys(chance.sample(new, min(each, len(new))), info.id)
    return [(document, name) for name, document in found.items()][:sample]


def _name(heading: str) -> str:
    """The innermost heading, or all of them where that is a single word."""
    innermost = heading.rpartition(HEADING_SEPARATOR)[2].strip()
    return " ".join((innermost if " " in innermost else heading.replace(HEADING_SEPARATOR, " ")).split())[:_LONGEST]


def _fresh(ctx: Context) -> Context:
    """The same caller, with time for one more search."""
    return replace(ctx, deadline=Deadline.after(_SEARCH_S))


def _figure(name: str, answers: Sequence[float], beside: Sequence[float]) -> SpaceFigure:
    gain, interval = paired_interval(beside, answers)
    return SpaceFigure(name, sum(answers) / len(answers), sum(beside) / len(beside), gain, interval)


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
