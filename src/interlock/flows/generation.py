"""Make cases of a suite from the documents of a collection, throw weak ones away, and put the rest before people.

Every passage in turn gives one case of each kind that is still wanted. A model, where one is named, first has to pass
trials whose answers are known; what only a good one can do is refused without it, the rest is made by rule. What was
done is written down step by step, so that the same command goes on after any death.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from interlock.core.audit import AuditEvent
from interlock.core.canonical import digest_json
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InterlockError, InvalidInput, NotFound
from interlock.core.money import Money
from interlock.core.passages import Passage
from interlock.evals.suite import read_suite
from interlock.evals.synthetic.asking import PERSONAS, trials
from interlock.evals.synthetic.curating import Accepted, accepted_of, item_of, queue_for
from interlock.evals.synthetic.journal import Step, Steps
from interlock.evals.synthetic.types import KINDS, MODEL_ONLY, Fault, Kind, KindReport, Made
from interlock.evals.types import Case
from interlock.flows.asking_of_passages import Writer, passages_in_turn
from interlock.flows.chat import has_knowledge
from interlock.flows.generation_kinds import Maker, OutOfMoney, Sources
from interlock.flows.parts import Parts
from interlock.knowledge.languages import KNOWN
from interlock.knowledge.questions.checks import Known
from interlock.knowledge.release import RetrievalSpec
from interlock.knowledge.types import Progress

__all__ = ["MOST_CASES", "Wanted", "accepted_cases", "collection_of", "generate"]

_log = logging.getLogger("interlock.evals")
MOST_CASES = 1_000
"""Of one kind in one run."""
_TRIES = 100
_TRIES_OF_MODEL = 8
"""Passages looked at for each case that is wanted: by rule most give none, and cost nothing."""
_NEEDS_MODEL = "needs a model that can write (--model): no rule makes it"
Tell = Callable[[Progress], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made."""

    collection: str
    suite: Path
    """Where accepted cases will go; its questions are not asked twice."""
    queue: str
    kinds: Sequence[Kind] = KINDS
    count: int = 10
    """Of each kind."""
    model: str = ""
    """A route or ``provider/model``; empty for none."""
    budget_usd: float = 1.0
    languages: Sequence[str] = ("de", "fr")
    """Of cases in other languages, in turn: ISO 639-1."""
    personas: Sequence[str] = tuple(PERSONAS)
    user: str = ""
    """The end user as whom the questions are asked."""
    fresh: bool = False

    @property
    def plan(self) -> str:
        """Digest of all that decides what is made: the same command goes on with the same plan."""
        told = {
            "collection": self.collection,
            "suite": str(self.suite.resolve()),
            "queue": self.queue,
            "model": self.model,
            "languages": list(self.languages),
            "personas": list(self.personas),
            "user": self.user,
        }
        return digest_json(told).removeprefix("sha256:")[:16]


async def collection_of(parts: Parts, ctx: Context, name: str, collections: Sequence[str]) -> str:
    """The collection that an app searches, or the collection itself. Raises: NotFound, InvalidInput."""
    if name in collections and not name.startswith("app/"):
        return name
    release = await parts.releases.resolve(ctx, name if name.startswith("app/") else f"app/{name}")
    if not has_knowledge(release):
        raise InvalidInput(
            f"the app {release.app!r} answers from no documents, so no questions can be made of them",
            param="target",
            hint="name a collection, or an app with knowledge",
        )
    return RetrievalSpec.model_validate(release.components["retrieval"], extra="ignore").collection


async def generate(
    parts: Parts, ctx: Context, wanted: Wanted, home: Path, *, tell: Tell | None = None, origin: str = ""
) -> Made:
    """Make the cases and put them into their queue. Needs the role developer or operator; audited.

    Args:
        ctx: whose rights decide which documents are asked about.
        home: folder of what runs have done.
        tell: is told how far it is.
        origin: who asks for them, for provenance.

    Raises: Forbidden; InvalidInput; NotFound: nothing readable is there; Conflict: another process makes the same;
        what the first call of the model raises.
    """
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    _check(parts, ctx, wanted)
    with (
        Steps(home / f"{wanted.plan}.jsonl", fresh=wanted.fresh) as steps,
        ctx.span("evals.generate", collection=wanted.collection) as (span, inner),
    ):
        run = await _begun(parts, inner, wanted, steps, origin)
        try:
            await _trials(inner, run)
            await _make(inner, run, tell)
        except OutOfMoney:
            run.made.stopped = "budget"
        finally:
            _count(run)
        if not run.made.passages:
            raise NotFound(
                f"the collection {wanted.collection!r} has no passage that you may read",
                param="collection",
                hint="ingest it first, or make them as a user who may read it",
            )
        sent = sum(report.sent for report in run.made.kinds.values())
        span.set(made=sent, calls=run.made.calls)
    details: dict[str, str | int | bool] = {
        "queue": wanted.queue,
        "made": sent,
        "thrown": sum(report.thrown.total() for report in run.made.kinds.values()),
        "model": wanted.model,
        "spent_nano": run.made.spent_nano,
    }
    event = AuditEvent(ctx.tenant, ctx.principal.id, "evals.generate", wanted.collection, "ok", details)
    await parts.governance.append(event)
    return run.made


def _check(parts: Parts, ctx: Context, wanted: Wanted) -> None:
    if not 1 <= wanted.count <= MOST_CASES:
        raise InvalidInput(f"count must be from 1 to {MOST_CASES}, not {wanted.count}", param="count")
    if wanted.budget_usd <= 0:
        raise InvalidInput("the budget must be above zero", param="budget")
    if not wanted.kinds:
        raise InvalidInput("no kind of case is asked for", param="kind", hint=", ".join(KINDS))
    if "language" in wanted.kinds and not wanted.languages:
        raise InvalidInput("no language is named", param="language", hint="--language de")
    for language in wanted.languages:
        if language not in KNOWN:
            raise InvalidInput(
                f"{language[:32]!r} is no language that can be told",
                param="language",
                hint="an ISO 639-1 code, e.g. de",
            )
    if parts.knowledge.is_external(ctx, wanted.collection):
        raise InvalidInput(
            f"the documents of {wanted.collection!r} are in an index elsewhere: cases are made of ingested ones",
            param="collection",
        )


@dataclass(slots=True)
class _Run:
    """One run and what it holds."""

    parts: Parts
    wanted: Wanted
    steps: Steps
    made: Made
    sources: Sources
    known: dict[Kind, Known] = field(default_factory=dict)
    exact: set[str] = field(default_factory=set)


async def _begun(parts: Parts, ctx: Context, wanted: Wanted, steps: Steps, origin: str) -> _Run:
    if wanted.queue not in {spec.queue for spec in await parts.reviews.queues(ctx)}:
        await parts.reviews.create(ctx, queue_for(wanted.queue))
    there = await parts.reviews.items(ctx, wanted.queue)
    # What a killed run has sent and not written down any more is made once more, with the same id: it is no double.
    own, done = f"generate:{wanted.plan}", {step.case for step in steps.done.values()}
    lost = {each.item.id for each in there if each.item.origin == own and each.item.id not in done}
    old = [Case.model_validate(i.item.case) for i in there if i.item.case is not None and i.item.id not in lost]
    cases = [*old, *(read_suite(wanted.suite).cases if wanted.suite.exists() else ())]
    writer = None
    if wanted.model:
        parts.gateway.route(wanted.model)
        writer = Writer(
            parts,
            wanted.model,
            wanted.budget_usd,
            {"purpose": "evaluation"},
            temperature=0.0,
            spent=Money(steps.spent_nano),
            told=lambda cost: steps.add(Step(call_nano=0 if cost is None else cost.nano)),
        )
    kinds = {kind: KindReport(wanted.count) for kind in wanted.kinds}
    made = Made(wanted.queue, kinds, taken_over=len(steps.done))
    sources = Sources(parts.knowledge, wanted.collection, writer, wanted.user, origin or ctx.principal.id)
    run = _Run(parts, wanted, steps, made, sources)
    for kind in wanted.kinds:
        # Cases that people wrote count for every kind of new question, variants only for their own kind.
        run.known[kind] = Known([case.question for case in cases if case.slices.get("made", kind) == kind])
    run.exact = {case.question.casefold() for case in cases}
    return run


async def _trials(ctx: Context, run: _Run) -> None:
    """Whether the model may be used: it is asked what is known, once a plan."""
    writer = run.sources.writer
    if writer is None:
        return
    note = run.steps.model_note
    if note is None:
        failed = [trial.name for trial in trials() if not trial.is_passed(await run.sources.ask(ctx, trial.prompt))]
        note = f"it failed {len(failed)} of {len(trials())} trials: {', '.join(failed)}" if failed else ""
        run.steps.add(Step(model_note=note))
    run.made.model_note = note
    if note:
        run.sources.writer = None


async def _make(ctx: Context, run: _Run, tell: Tell | None) -> None:
    wanted, made = run.wanted, run.made
    for kind in MODEL_ONLY & set(made.kinds):
        if run.sources.writer is None:
            made.kinds[kind].note = run.made.model_note or _NEEDS_MODEL
    open_kinds = [k for k in made.kinds if not made.kinds[k].note and run.steps.sent(k) < wanted.count]
    total = wanted.count * len([k for k in made.kinds if not made.kinds[k].note])
    maker = Maker(run.sources, languages=wanted.languages, personas=wanted.personas)
    most = wanted.count * (_TRIES if run.sources.writer is None else _TRIES_OF_MODEL)
    async with aclosing(passages_in_turn(run.parts.knowledge, ctx, wanted.collection, most=most)) as passages:
        async for passage in passages:
            made.passages += 1
            left = [k for k in open_kinds if _unit(k, passage) not in run.steps.done]
            try:
                for kind in left:
                    step = await _one(ctx, run, maker, kind, passage)
                    run.steps.add(step)
                    if step.case and run.steps.sent(kind) >= wanted.count:
                        open_kinds.remove(kind)
            except (OutOfMoney, Conflict, NotFound):
                raise
            except InterlockError as error:
                if run.sources.writer is None or not run.steps.done:
                    raise
                _log.warning("no cases are made any more in this run: %s", error.code)
                made.stopped = error.code
                return
            maker.passed(passage)
            if tell is not None:
                sent = sum(run.steps.sent(kind) for kind in made.kinds)
                await tell(Progress(sent, total, passage.source))
            if not open_kinds:
                return
    if open_kinds:
        made.stopped = "passages"


def _unit(kind: Kind, passage: Passage) -> str:
    return hashlib.sha256(f"{kind}\0{passage.id}\0{passage.document_digest}".encode()).hexdigest()[:24]


async def _one(ctx: Context, run: _Run, maker: Maker, kind: Kind, passage: Passage) -> Step:
    """The first good case of a kind that a passage gives, put into the queue."""
    thrown: Counter[Fault] = Counter()
    sent = ""
    async with aclosing(maker.make(ctx, kind, passage, lambda text: _is_known(run, kind, text))) as found:
        async for each in found:
            if isinstance(each, str):
                thrown[each] += 1
                continue
            # One that a killed run has sent, and did not write down any more, is there already.
            await run.parts.reviews.add(ctx, run.wanted.queue, [item_of(each, f"generate:{run.wanted.plan}")])
            run.known[kind].add(each.case.question)
            run.exact.add(each.case.question.casefold())
            sent = each.case.id
            break
    return Step(_unit(kind, passage), kind, sent, dict(thrown))


def _is_known(run: _Run, kind: Kind, question: str) -> bool:
    if kind in {"unanswerable", "contradiction"}:
        # The same question over other documents is another case.
        return run.known[kind].has(question)
    if kind in {"conversation", "paraphrase", "typo", "language"}:
        # Variants are near to what they are made of; a follow-up says little by itself.
        return kind != "conversation" and question.casefold() in run.exact
    return run.known[kind].has(question)


def _count(run: _Run) -> None:
    made, writer = run.made, run.sources.writer
    for kind, report in made.kinds.items():
        report.sent = run.steps.sent(kind)
        report.thrown = run.steps.thrown(kind)
        report.hand = "model" if writer is not None and kind not in {"typo", "contradiction"} else "rule"
    made.calls, made.spent_nano = run.steps.calls, run.steps.spent_nano
    made.unpriced = run.steps.calls > 0 and run.steps.spent_nano == 0


async def accepted_cases(parts: Parts, ctx: Context, queue: str) -> tuple[Accepted, list[Case], int]:
    """What people accepted, the cases among it that still hold, and how many do not: their documents have another text
    by now, or are gone. Needs the role developer, operator or risk.
    """
    found = accepted_of(await parts.reviews.items(ctx, queue))
    holds: list[Case] = []
    digests: dict[str, Mapping[str, str]] = {}
    for item, case in found.items:
        if item.collection not in digests:
            infos = await parts.knowledge.documents(ctx, collection=item.collection)
            digests[item.collection] = {info.id: info.text_digest for info in infos}
        told = case.metadata.get("text_digests")
        now = digests[item.collection]
        if isinstance(told, dict) and all(now.get(document) == digest for document, digest in told.items()):
            holds.append(case)
    return found, holds, len(found.items) - len(holds)
