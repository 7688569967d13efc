"""A search told stage by stage, from the same code path that answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from interlock.core.context import Context, Role
from interlock.core.errors import NotFound
from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Passage
from interlock.knowledge.analysers import analyse
from interlock.knowledge.context import judged
from interlock.knowledge.explanation import ExplainedPassage, Explanation, Fate, Place, Removed, Stage, WhyNot
from interlock.knowledge.legs import LEG_WORDS
from interlock.knowledge.ports import CountTokens
from interlock.knowledge.searching import Findings, Searcher, SearchPlan
from interlock.knowledge.settings import FusionSettings
from interlock.knowledge.types import DocumentInfo
from interlock.stores.index.base import Hit

__all__ = ["explained", "removed_by_rights", "why_not"]

_STAGES = ("filter", "analyse", "lexical", "embed", "dense", "fuse", "registry")
_MOST_REMOVED = 50
_OVERSIGHT = (Role.DEVELOPER, Role.OPERATOR)


def explained(
    ctx: Context,
    plan: SearchPlan,
    found: Findings,
    *,
    context: Sequence[Passage],
    budget_tokens: int,
    count_tokens: CountTokens,
    why: WhyNot | None,
    removed: Sequence[Removed] | None = None,
    hint: str = "",
) -> Explanation:
    """Put what a search left behind into words and figures.

    Args:
        ctx: who searched; nothing is told of documents this caller may not read.
        plan: what was asked.
        found: of that search.
        context: what a prompt gets of it.
        budget_tokens: of the context.
        count_tokens: as the context was counted.
        why: the answer about one document, if there was a question about one.
        removed: what rights kept from the caller; None for those who may not be told.
        hint: what to mend in the filter.
    """
    readable = found.passages(ctx)
    searched = found.plan or plan
    fates = _fates(readable, context, plan.limit, budget_tokens, count_tokens)
    dense, lexical = _places(found.dense), _places(found.lexical)
    asked = frozenset(found.terms)
    candidates = [
        ExplainedPassage(
            rank=rank,
            passage=passage,
            dense=dense.get(passage.id),
            lexical=lexical.get(passage.id),
            words=_words_in(passage, asked, found.documents[passage.document_id]),
            fate=fates[passage.id],
        )
        for rank, passage in enumerate(readable, start=1)
    ]
    rows = {
        "filter": len(found.within or ()),
        "analyse": len(found.terms),
        "lexical": len(found.lexical),
        "embed": 1,
        "dense": len(found.dense),
        "fuse": len(found.ranked),
        "registry": len(readable),
    }
    return Explanation(
        query=plan.query,
        embedded=found.embedded,
        languages=found.languages,
        terms=found.terms,
        mode=plan.mode,
        fusion=_told(found.fusion or plan.fusion, found, plan),
        documents=None if found.within is None else len(found.within),
        stages=tuple(Stage(name, found.seconds[name], rows[name]) for name in _STAGES if name in found.seconds),
        candidates=candidates,
        context=context,
        context_tokens=sum(count_tokens(passage.text) for passage in context),
        budget_tokens=budget_tokens,
        why_not=why,
        steps=tuple(found.steps),
        searched=searched.query,
        space=found.space,
        off=found.off,
        removed=removed,
        hint=hint,
        oversees=ctx.principal.has(*_OVERSIGHT),
    )


async def removed_by_rights(
    ctx: Context, plan: SearchPlan, facts: Sequence[DocumentInfo], *, searcher: Searcher
) -> Sequence[Removed] | None:
    """Documents that rights kept from a search; None for all but developers and operators. Searches once more, where
    there is anything to keep.

    Args:
        ctx: who searched.
        plan: what was searched.
        facts: all documents of the collection.
        searcher: searches as if everybody might read everything. No text of what it finds goes any further.
    """
    if not ctx.principal.has(*_OVERSIGHT):
        return None
    closed = {info.id: info for info in facts if info.passages and not info.readers & ctx.readers}
    if not closed:
        return ()
    readers = frozenset(reader for info in facts for reader in info.readers)
    whole = await searcher.find(ctx, plan, readers=readers)
    owners = {hit.passage_id: hit.document_id for hit in (*whole.lexical, *whole.dense)}
    found: dict[DocumentId, Removed] = {}
    for rank, (passage, _) in enumerate(whole.ranked, start=1):
        info = closed.get(owners[passage])
        if info is not None and info.id not in found:
            found[info.id] = Removed(info.id, rank, tuple(sorted(info.readers)))
    return tuple(found.values())[:_MOST_REMOVED]


async def why_not(
    ctx: Context,
    plan: SearchPlan,
    found: Findings,
    document: DocumentId,
    *,
    searcher: Searcher,
    fate_of: Callable[[PassageId], Fate | None],
) -> WhyNot:
    """Why a document is not among the results.

    Args:
        ctx: who searched. Developers and operators are also told of documents this caller may not read.
        plan: what was asked.
        found: of that search.
        document: its id.
        searcher: looks at the one document.
        fate_of: what became of a passage that was found.

    Raises: NotFound: no such document, or one of another collection, or, indistinguishably, one that the caller may
        neither read nor oversee.
    """
    info = await searcher.known(ctx, document)
    oversees = ctx.principal.has(*_OVERSIGHT)
    readable = info is not None and bool(info.readers & ctx.readers)
    if info is None or info.collection != plan.collection or not (readable or oversees):
        raise NotFound(f"no document {document!r} in {plan.collection!r}", param="document")
    told = _TellingOf(info)
    if not readable:
        who = ", ".join(sorted(info.readers)) or "nobody"
        return told("unreadable", f"the caller is none of its readers ({who})")
    if not info.text_digest:
        return told("failed", f"it could not be read: {info.error_message}")
    if plan.filter and not plan.filter.holds(info):
        failing = next(c for c in plan.filter.conditions if not c.holds(info))
        return told("filtered", f"it does not meet the filter on {failing.field!r}")
    for passage in found.passages(ctx, limit=plan.limit):
        if passage.document_id == document:
            fate = fate_of(passage.id)
            if fate in {None, "context", "merged"}:
                return told("found", "it is among the results", passage.id)
            assert fate is not None
            return told("left_out", f"it was found, and left out of the context: {_LEFT_OUT[fate]}", passage.id)
    alone = await searcher.find(ctx, plan, only=[document])
    near = alone.passages(ctx, limit=1)
    if not near:
        if await _is_indexed(searcher, ctx, plan, document):
            return told("nothing_in_common", "no passage of it shares a word with the question")
        return told("not_indexed", info.cleaning.why_no_passages())
    return told("behind_others", _behind(found, alone, plan.limit), near[0].id)


class _TellingOf:
    def __init__(self, info: DocumentInfo) -> None:
        self._info = info

    def __call__(self, reason: str, told: str, best: PassageId | None = None) -> WhyNot:
        return WhyNot(self._info.id, self._info.source, reason, told, best)  # type: ignore[arg-type]


_LEFT_OUT: dict[Fate, str] = {
    "repeat": "a better passage says the same",
    "withdrawn": "it is withdrawn, and a current one was found",
    "over_budget": "it does not fit what was left of the budget",
    "below_limit": "it is behind the last that the search gives",
}


async def _is_indexed(searcher: Searcher, ctx: Context, plan: SearchPlan, document: DocumentId) -> bool:
    if plan.mode != "lexical":
        return False  # the dense leg finds every passage there is
    return bool(await searcher.passages_of(ctx, plan.collection, document))


def _behind(found: Findings, alone: Findings, limit: int) -> str:
    said: list[str] = []
    for name, of_all, own in (("meaning", found.dense, alone.dense), ("words", found.lexical, alone.lexical)):
        if not own:
            if of_all:
                said.append(f"by {name} nothing of it fits")
            continue
        ahead = sum(hit.score > own[0].score for hit in of_all)
        place = f"behind {ahead}" if ahead < len(of_all) else f"behind all {len(of_all)}"
        said.append(f"by {name} its best passage scores {own[0].score:.3g}, {place} of the candidates")
    last = found.ranked[limit - 1][1] if len(found.ranked) >= limit else None
    tail = f"; the last of {limit} given scores {last:.3f} after fusion" if last is not None else ""
    return "; ".join(said) + tail


def _fates(
    readable: Sequence[Passage], context: Sequence[Passage], limit: int, budget: int, count: CountTokens
) -> dict[PassageId, Fate]:
    fates: dict[PassageId, Fate] = {passage.id: "below_limit" for passage in readable[limit:]}
    whole = {passage.id for passage in context}
    for passage, fate in judged(readable[:limit], budget_tokens=budget, count_tokens=count):
        # What was chosen but does not stand there under its own id was joined to its neighbour.
        fates[passage.id] = "merged" if fate == "context" and passage.id not in whole else fate
    return fates


def _places(hits: Sequence[Hit]) -> dict[PassageId, Place]:
    return {hit.passage_id: Place(rank, hit.score) for rank, hit in enumerate(hits, start=1)}


def _words_in(passage: Passage, asked: frozenset[str], info: DocumentInfo) -> tuple[str, ...]:
    here = f"{passage.title}\n{passage.heading}\n{passage.text}"
    return tuple(dict.fromkeys(term for term in analyse(here, info.languages or ("en",)) if term in asked))


def _told(fusion: FusionSettings, found: Findings, plan: SearchPlan) -> str:
    if len(found.off) == 1:
        return f"{LEG_WORDS[found.asked[0]]} alone" if found.asked else "nothing"
    method = f"convex, dense weight {fusion.dense_weight:g}" if fusion.method == "convex" else f"rrf, k {fusion.k}"
    if fusion.method != plan.fusion.method:
        method += f": by {' and by '.join(LEG_WORDS[leg] for leg in found.flat())} everything scores alike"
    return method + (f", document weight {fusion.document_weight:g}" if fusion.document_weight else "")
