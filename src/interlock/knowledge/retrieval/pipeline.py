"""One search with its steps: what is asked, the search itself, where else to look, and the order of what was found.

Every step is told, traced as a span with its counts, and optional. None of them makes a search fail: where one breaks,
what stood before it stands.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import InterlockError, NotFound
from interlock.core.passages import Passage
from interlock.knowledge.graph import modelled
from interlock.knowledge.graph import step as graph_step
from interlock.knowledge.graph.store import Graphs
from interlock.knowledge.languages import asked_in
from interlock.knowledge.narrowing import narrowed
from interlock.knowledge.retrieval import acronyms, conversation, expansion, self_query, spelling
from interlock.knowledge.retrieval.allowance import Allowance
from interlock.knowledge.retrieval.diversity import capped, mmr
from interlock.knowledge.retrieval.lexicon import Lexicon, Vocabulary
from interlock.knowledge.retrieval.merging import gained, merged
from interlock.knowledge.retrieval.ports import Assistant, RerankerSurroundings
from interlock.knowledge.retrieval.priors import authority_of, freshness_of, weighed
from interlock.knowledge.retrieval.rerankers import rerankers
from interlock.knowledge.retrieval.reranking import reordered
from interlock.knowledge.retrieval.settings import RetrievalSteps
from interlock.knowledge.retrieval.types import Outcome, Said, StepFailed, StepName, StepTold, Turn
from interlock.knowledge.searching import Findings, Searcher, SearchPlan
from interlock.knowledge.store import DocumentStore
from interlock.knowledge.types import DocumentInfo

__all__ = ["Retrieval"]

_log = logging.getLogger("interlock.knowledge")
_LEXICON_S = 2.0
"""What a search waits for the words of a new or changed collection."""
_AWAY = "this collection stands in an index elsewhere, whose words and metadata are not known here"
_GRAPH_S = 2.0
"""And for its graph."""
_READ_BY_MODEL = 5
_RELATION_TOKENS = 800
_PARTS = 3
_HOP_QUERIES = 2
_QUERY_TOKENS = 60
_PASSAGE_TOKENS = 200
_HEAD = 50
"""Candidates that are looked at for likeness."""


@dataclass(slots=True)
class _Open:
    """One step while it runs."""

    ctx: Context
    outcome: Outcome = "nothing"
    after: int = 0
    told: str = ""

    def applied(self, after: int, told: str) -> None:
        self.outcome, self.after, self.told = ("applied" if after else "nothing"), after, told


class Retrieval:
    """Runs searches with their steps.

    Args:
        searcher: the search itself.
        documents: the registry.
        lexicon: words of collections.
        graphs: entities and relations of collections.
        models: folder of weights, for rerankers.
        threads: of a reranker.
    """

    def __init__(
        self,
        searcher: Searcher,
        documents: DocumentStore,
        lexicon: Lexicon,
        graphs: Graphs,
        *,
        models: Path,
        threads: int,
    ) -> None:
        self.searcher = searcher
        self.documents = documents
        self.lexicon = lexicon
        self.graphs = graphs
        self.models = models
        self.threads = threads

    async def find(
        self,
        ctx: Context,
        plan: SearchPlan,
        steps: RetrievalSteps,
        *,
        history: Sequence[Turn] = (),
        assistant: Assistant | None = None,
    ) -> Findings:
        """Search, with the steps that are on.

        Args:
            ctx: the caller, whose readers decide about everything, words and metadata included.
            plan: checked.
            steps: which, and how.
            history: earlier turns, oldest first.
            assistant: a model for the steps that need one; without it they are left out and say so.

        Returns: `Findings.plan` is what was searched in the end, `Findings.steps` what every step did.
        Raises: as `Searcher.find`.
        """
        return await _Run(self, ctx, plan, steps, assistant).run(history)


class _Run:
    def __init__(
        self, rooms: Retrieval, ctx: Context, plan: SearchPlan, steps: RetrievalSteps, assistant: Assistant | None
    ) -> None:
        self._rooms = rooms
        self._ctx = ctx
        self._plan = plan
        self._steps = steps
        self._assistant = assistant
        self._allowance = Allowance(steps.model)
        self._told: list[StepTold] = []
        self._is_named = True
        """The model of the steps; False once it turned out that there is none."""
        self._named: self_query.Recognised | None = None

    async def run(self, history: Sequence[Turn]) -> Findings:
        steps = self._steps
        if history and steps.conversation != "off":
            await self._stand_alone(history)
        if steps.spelling or steps.acronyms:
            await self._words()
        if steps.self_query is not None:
            await self._self_query()
        others, parts = await self._expand()
        found = await self._search()
        await self._search_others(found, others, "mean")
        await self._search_others(found, parts, "best")
        if steps.graph is not None:
            await self._graph(found)
        if steps.expansion is not None and steps.expansion.decompose:
            await self._hop(found, parts)
        await self._rank(found)
        found.plan, found.steps = self._plan, self._told
        return found

    # ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _stand_alone(self, history: Sequence[Turn]) -> None:
        question = self._plan.query
        earlier = [turn.text.strip() for turn in history if turn.role == "user" and turn.text.strip()]
        rewritten = question
        if self._steps.conversation == "model":
            with self._step("conversation", len(history)) as step:
                user = conversation.asked_of_model(question, history)
                said = expansion.cleaned(await self._ask(step.ctx, conversation.SYSTEM, user, 2 * _QUERY_TOKENS))
                rewritten = said or question
                step.applied(int(rewritten != question), f"searched: {rewritten}")
            if rewritten != question:
                self._plan = replace(self._plan, query=rewritten)
                return
            if self._told[-1].outcome == "nothing":
                return  # the model says that it stands alone
        with self._step("conversation", len(history)) as step:
            rewritten = conversation.standalone(question, earlier)
            step.applied(int(rewritten != question), f"searched: {rewritten}")
        self._plan = replace(self._plan, query=rewritten)

    async def _words(self) -> None:
        vocabulary: Vocabulary | None = None
        why = "the words of this collection are still being read, or it is too large for that"
        try:
            if self._is_away():
                why = _AWAY
            else:
                vocabulary = await self._rooms.lexicon.readable(
                    self._ctx, self._plan.collection, within_s=min(_LEXICON_S, self._ctx.deadline.remaining_s())
                )
        except InterlockError as error:
            why = f"the words of this collection cannot be read: {error.code}"
        if self._steps.spelling:
            with self._step("spelling", len(self._plan.query.split())) as step:
                if vocabulary is None:
                    raise StepFailed(why, skipped=True)
                words, query = vocabulary.words, self._plan.query
                held = await self._rooms.documents.languages(self._ctx.tenant, self._plan.collection, self._ctx.readers)
                languages = await to_thread.run_sync(asked_in, query, held)
                mended, found = await to_thread.run_sync(spelling.corrected, query, words, languages)
                self._plan = replace(self._plan, query=mended)
                step.applied(len(found), ", ".join(f"{one.word} → {one.meant}" for one in found))
        if self._steps.acronyms:
            with self._step("acronyms", len(self._plan.query.split())) as step:
                if vocabulary is None:
                    raise StepFailed(why, skipped=True)
                pairs = acronyms.expanded(self._plan.query, vocabulary.pairs)
                asked = self._plan.query.casefold()
                added = [pair.long if pair.short.casefold() in asked else pair.short for pair in pairs]
                if added:
                    self._plan = replace(self._plan, query=f"{self._plan.query} ({'; '.join(added)})")
                step.applied(len(added), ", ".join(f"{pair.short} = {pair.long}" for pair in pairs))

    async def _self_query(self) -> None:
        settings = self._steps.self_query
        assert settings is not None
        with self._step("self_query", 0) as step:
            if self._is_away():
                raise StepFailed(_AWAY, skipped=True)
            facts = await self._rooms.documents.facts(self._ctx.tenant, self._plan.collection)
            told = [info for info in facts if info.text_digest and not info.cleaning.held]
            readable = [info for info in told if info.readers & self._ctx.readers]
            named = await to_thread.run_sync(self_query.recognised, self._plan.query, readable, settings)
            step.applied(len(named.groups), named.told)
            if not named.groups:
                return
            if settings.mode == "soft":
                self._named = named
                return
            wanted = named.filter(self._plan.filter)
            if await narrowed(self._ctx, wanted, readable, self._ctx.readers):
                self._plan = replace(self._plan, filter=wanted)
            else:
                step.outcome = "nothing"
                step.told = f"{named.told}: no document has all of it, so all are searched"

    def _is_away(self) -> bool:
        return self._rooms.searcher.external.find(self._ctx.tenant, self._plan.collection) is not None

    async def _expand(self) -> tuple[list[str], list[str]]:
        wanted = self._steps.expansion
        others: list[str] = []
        parts: list[str] = []
        if wanted is None:
            return others, parts
        query = self._plan.query
        if wanted.queries:
            with self._step("multi_query", 1) as step:
                system = expansion.MULTI_QUERY.format(count=wanted.queries)
                said = await self._ask(step.ctx, system, query, _QUERY_TOKENS * wanted.queries)
                others = expansion.lines_of(said, most=wanted.queries, beside=[query])
                step.applied(len(others), "; ".join(others))
        if wanted.decompose:
            with self._step("decompose", 1) as step:
                system = expansion.DECOMPOSE.format(count=_PARTS)
                said = await self._ask(step.ctx, system, query, _QUERY_TOKENS * _PARTS)
                parts = expansion.lines_of(said, most=_PARTS, beside=[query])
                step.applied(len(parts), "; ".join(parts))
        if wanted.hyde and self._plan.mode != "lexical":
            with self._step("hyde", 1) as step:
                said = expansion.cleaned(await self._ask(step.ctx, expansion.HYDE, query, _PASSAGE_TOKENS))
                self._plan = replace(self._plan, hypothesis=said)
                step.applied(int(bool(said)), said)
        return others, parts

    # ── where it is looked for ────────────────────────────────────────────────────────────────────────────────────

    async def _search(self) -> Findings:
        return await self._rooms.searcher.find(self._ctx, self._plan)

    async def _search_others(self, found: Findings, queries: Sequence[str], how: str) -> int:
        """Search further texts and take what they find in; gives the number of passages that are new."""
        rankings = []
        known = {passage for passage, _ in found.ranked}
        for query in queries:
            try:
                other = await self._rooms.searcher.find(self._ctx, replace(self._plan, query=query, hypothesis=""))
            except InterlockError as error:
                _log.info("a further search failed: %s", error.code)
                continue
            rankings.append(other.ranked)
            found.further += [*other.dense, *other.lexical]
            found.further_relevance = other.relevances() | found.further_relevance
            found.documents |= other.documents
        found.ranked = merged(found.ranked, rankings, "mean" if how == "mean" else "best")
        return len({passage for passage, _ in found.ranked} - known)

    async def _graph(self, found: Findings) -> None:
        """Look up what documents say elsewhere of the things that the question names."""
        settings = self._steps.graph
        assert settings is not None
        known = {passage for passage, _ in found.ranked}
        with self._step("graph", len(known)) as step:
            if self._is_away():
                raise StepFailed(_AWAY, skipped=True)
            within_s = min(_GRAPH_S, self._ctx.deadline.remaining_s())
            graph = await self._rooms.graphs.readable(step.ctx, self._plan.collection, within_s=within_s)
            if graph is None:
                raise StepFailed("the graph of this collection is still being made, or it is too large", skipped=True)
            allowed = None
            if self._plan.filter:
                facts = await self._rooms.documents.facts(self._ctx.tenant, self._plan.collection)
                allowed = await narrowed(self._ctx, self._plan.filter, facts, self._ctx.readers)
            said = await self._relations(step.ctx, found) if settings.by_model else ()
            followed = await graph_step.follow(
                step.ctx, self._plan, found, graph, settings, searcher=self._rooms.searcher, allowed=allowed, said=said
            )
            found.ranked = gained(found.ranked, followed.gains, settings.weight)
            step.applied(len(followed.gains), followed.told)

    async def _relations(self, ctx: Context, found: Findings) -> Sequence[modelled.Said]:
        """What a model reads in the best passages; nothing when it cannot be asked: the rules go on without it."""
        if self._assistant is None:
            return ()
        try:
            best = found.passages(self._ctx, limit=_READ_BY_MODEL)
            shown = await self._assistant.screen(ctx, best)
            user = modelled.asked(self._plan.query, shown)
            answer = await self._ask(ctx, modelled.SYSTEM, user, _RELATION_TOKENS, schema=modelled.SCHEMA)
        except StepFailed as error:
            _log.info("no model read relations: %s", error.told)
            return ()
        return modelled.checked(answer, shown)

    async def _hop(self, found: Findings, asked: Sequence[str]) -> None:
        """Look at what was found and ask on, until nothing new comes or the allowance is spent."""
        searched = [self._plan.query, *asked]
        for _ in range(self._steps.model.max_rounds):
            best = found.passages(self._ctx, limit=self._plan.limit)
            new = 0
            with self._step("hop", len(best)) as step:
                if self._assistant is None:
                    raise StepFailed("no model can be asked here", skipped=True)
                shown = await self._assistant.screen(step.ctx, best)
                user = expansion.asked_for_hop(self._plan.query, searched, shown)
                said = await self._ask(
                    step.ctx, expansion.HOP.format(count=_HOP_QUERIES), user, _QUERY_TOKENS * _HOP_QUERIES
                )
                queries = expansion.lines_of(said, most=_HOP_QUERIES, beside=searched)
                if queries:
                    new = await self._search_others(found, queries, "best")
                    searched += queries
                step.applied(new, "; ".join(queries) or "the model asks no more")
            if not new:
                return

    # ── in which order it is given ────────────────────────────────────────────────────────────────────────────────

    async def _rank(self, found: Findings) -> None:
        steps = self._steps
        if not any((self._named, steps.freshness, steps.authority, steps.rerank, steps.diversity)):
            return
        passages = found.passages(self._ctx)

        def info(passage: Passage) -> DocumentInfo:
            return found.documents[passage.document_id]

        if self._named is not None and steps.self_query is not None:
            named, share = self._named, 1.0 - steps.self_query.weight
            passages, _ = weighed(passages, lambda p: share ** named.missed(info(p)), 1.0)
        if steps.freshness is not None:
            fresh, at = steps.freshness, now()
            passages = self._weigh(
                "freshness", passages, lambda p: freshness_of(info(p), fresh, at), fresh.weight, fresh.field
            )
        if steps.authority is not None:
            rules = steps.authority
            passages = self._weigh(
                "authority", passages, lambda p: authority_of(info(p), rules), rules.weight, rules.field
            )
        if steps.rerank is not None:
            passages = await self._rerank(passages)
        if steps.diversity is not None and steps.diversity.mmr is not None:
            with self._step("mmr", len(passages)) as step:
                passages, moved = await to_thread.run_sync(
                    lambda given: mmr(given, steps.diversity.mmr, head=_HEAD),  # type: ignore[union-attr, arg-type]
                    passages,
                )
                step.applied(moved, f"{moved} moved")
        if steps.diversity is not None and steps.diversity.per_document is not None:
            with self._step("per_document", len(passages)) as step:
                passages, moved = capped(passages, steps.diversity.per_document)
                step.applied(moved, f"{moved} moved")
        found.ranked = [(passage.id, passage.score) for passage in passages]

    def _weigh(
        self, name: StepName, passages: list[Passage], worth: Callable[[Passage], float], weight: float, field: str
    ) -> list[Passage]:
        with self._step(name, len(passages)) as step:
            passages, moved = weighed(passages, worth, weight)
            step.applied(moved, f"by {field}: {moved} moved")
        return passages

    async def _rerank(self, passages: list[Passage]) -> list[Passage]:
        settings = self._steps.rerank
        assert settings is not None
        read = passages[: settings.candidates]
        with self._step("rerank", len(read)) as step:
            if not read:
                return passages
            given = RerankerSurroundings(
                self._rooms.models,
                self._rooms.threads,
                settings.model,
                self._assistant,
                self._allowance,
                self._steps.model.name,
            )
            reranker = rerankers.get(settings.reranker).open(given)
            try:
                with anyio.fail_after(settings.timeout_s):
                    scores = await reranker.rerank(step.ctx, self._plan.query, read)
            except TimeoutError as error:
                raise StepFailed("the reranker took too long") from error
            except (InterlockError, StepFailed):
                raise
            except Exception as error:
                # A reranker is somebody else's code, and a search must not fall with it.
                _log.warning("the reranker %s failed: %s", settings.reranker, type(error).__name__)
                raise StepFailed("the reranker broke") from error
            passages, moved = reordered(passages, read, scores, weight=settings.weight)
            step.applied(moved, f"{settings.reranker} {settings.model}".strip() + f": {moved} moved")
        return passages

    # ── how it is told ────────────────────────────────────────────────────────────────────────────────────────────

    # Any: a JSON schema.
    async def _ask(
        self, ctx: Context, system: str, user: str, max_tokens: int, *, schema: Mapping[str, Any] | None = None
    ) -> str:
        assistant = self._assistant
        if assistant is None:
            raise StepFailed("no model can be asked here", skipped=True)
        if not self._is_named:
            raise StepFailed("no model, as above")

        async def call(ctx: Context) -> Said:
            try:
                return await assistant.ask(
                    ctx, model=self._steps.model.name, system=system, user=user, max_tokens=max_tokens, schema=schema
                )
            except NotFound as error:
                if error.param != "steps.model.name":
                    raise
                self._is_named = False
                raise StepFailed("no model is named: name one under steps.model.name") from error

        return await self._allowance.ask(ctx, call, read=len(system) + len(user), max_tokens=max_tokens)

    def _why(self, error: InterlockError) -> str:
        """The code of an error; who looks after the collection is told what to change, too."""
        if not self._ctx.principal.has(Role.DEVELOPER, Role.OPERATOR):
            return error.code
        return f"{error.code}: {error}"

    @contextmanager
    def _step(self, name: StepName, before: int) -> Iterator[_Open]:
        """Time, trace and tell one step; what it raises is told, and goes no further."""
        at = time.perf_counter()
        with self._ctx.span(f"knowledge.step.{name}") as (span, inner):
            step = _Open(inner)
            try:
                yield step
            except StepFailed as error:
                step.outcome, step.after, step.told = ("skipped" if error.skipped else "failed"), 0, error.told
            except InterlockError as error:
                step.outcome, step.after, step.told = "failed", 0, f"it failed: {self._why(error)}"
            span.set(before=before, after=step.after, outcome=step.outcome)
        self._told.append(StepTold(name, step.outcome, time.perf_counter() - at, before, step.after, step.told))
