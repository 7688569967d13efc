"""Found passages into evidence for a prompt: neighbours merged, repeats dropped, what no longer stands left out.

Of several versions of one thing the newest comes first (`cleaning/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from interlock.core.ids import PassageId
from interlock.core.passages import Passage, Span
from interlock.knowledge.explanation import Fate
from interlock.knowledge.ports import CountTokens
from interlock.knowledge.types import HEADING_SEPARATOR

__all__ = ["assemble", "is_withdrawn", "judged"]

_WITHDRAWN = frozenset({"withdrawn", "superseded", "obsolete", "archived"})
_SAME_TEXT = 0.8
"""Share of common three-word sequences from which two passages say the same."""
_MAX_GAP = 400
"""Longest text between two passages of one section that still makes them neighbours, in characters."""


def is_withdrawn(passage: Passage) -> bool:
    """True when the document's metadata says that it no longer stands."""
    facts = dict(passage.metadata)
    return facts.get("status", "").lower() in _WITHDRAWN or bool(facts.get("superseded_by"))


def assemble(
    passages: Sequence[Passage],
    *,
    budget_tokens: int,
    count_tokens: CountTokens,
    texts: Mapping[str, str] | None = None,
    keep_withdrawn: bool = False,
) -> list[Passage]:
    """Choose and merge passages for a prompt.

    Passages of withdrawn documents are left out as soon as a current one was found; with `keep_withdrawn` they follow
    the current ones instead. A passage that does not fit the budget is left out and smaller ones after it may still
    come in.

    Args:
        passages: best first.
        budget_tokens: tokens all texts together may have.
        count_tokens: the model's tokeniser, or an estimate of it.
        texts: extracted text by document digest; neighbours of a document that is missing here are not merged.
        keep_withdrawn: see above.

    Returns: best first; a merged passage stands where its best part stood and keeps that part's id and scores.
    """
    fates = judged(passages, budget_tokens=budget_tokens, count_tokens=count_tokens, keep_withdrawn=keep_withdrawn)
    chosen = [passage for passage, fate in fates if fate == "context"]
    spent = sum(count_tokens(passage.text) for passage in chosen)
    return _merged(chosen, texts or {}, spare=budget_tokens - spent, count_tokens=count_tokens)


def judged(
    passages: Sequence[Passage], *, budget_tokens: int, count_tokens: CountTokens, keep_withdrawn: bool = False
) -> list[tuple[Passage, Fate]]:
    """What becomes of each passage before any is merged; arguments and order as of `assemble`."""
    current = _newest_first(_current_first(passages, keep_withdrawn=keep_withdrawn))
    kept = _without_repeats(current)
    standing, said_once = {p.id for p in current}, {p.id for p in kept}
    fates: dict[PassageId, Fate] = {}
    spent = 0
    for passage in kept:
        cost = count_tokens(passage.text)
        fits = spent + cost <= budget_tokens
        fates[passage.id] = "context" if fits else "over_budget"
        spent += cost if fits else 0
    aside = [p for p in passages if p.id not in standing]
    judged: list[tuple[Passage, Fate]] = [
        (passage, fates[passage.id] if passage.id in said_once else "repeat") for passage in current
    ]
    return judged + [(passage, "withdrawn") for passage in aside]


def _current_first(passages: Sequence[Passage], *, keep_withdrawn: bool) -> list[Passage]:
    current = [p for p in passages if not is_withdrawn(p)]
    withdrawn = [p for p in passages if is_withdrawn(p)]
    return current + withdrawn if keep_withdrawn or not current else current


def _newest_first(passages: Sequence[Passage]) -> list[Passage]:
    """Versions of one thing in the places that they have together, the newest in the best of them.

    None is left out: which of them holds is for the answer to say, and it reads the newest first.
    """
    ranked: dict[str, list[tuple[int, int]]] = {}
    for place, passage in enumerate(passages):
        facts = dict(passage.metadata)
        rank = facts.get("version_rank", "").partition(" ")[0]
        if facts.get("version_group") and rank.isdecimal() and len(rank) < 6:
            ranked.setdefault(facts["version_group"], []).append((int(rank), place))
    ordered = list(passages)
    for members in ranked.values():
        places = sorted(place for _, place in members)
        for place, (_, taken_from) in zip(places, sorted(members), strict=True):
            ordered[place] = passages[taken_from]
    return ordered


def _without_repeats(passages: Sequence[Passage]) -> list[Passage]:
    kept: list[Passage] = []
    shingles: list[frozenset[tuple[str, ...]]] = []
    for passage in passages:
        own = _shingles(passage.text)
        if any(_overlap(own, other) >= _SAME_TEXT for other in shingles):
            continue
        kept.append(passage)
        shingles.append(own)
    return kept


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = text.casefold().split()
    return frozenset(zip(words, words[1:], words[2:], strict=False)) or frozenset({tuple(words)})


def _overlap(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b)


def _merged(
    passages: Sequence[Passage], texts: Mapping[str, str], *, spare: int, count_tokens: CountTokens
) -> list[Passage]:
    """Join passages of one section that touch, or that have little between them when the budget has room for it."""
    order = {passage.id: rank for rank, passage in enumerate(passages)}
    groups: list[list[Passage]] = []
    by_place = sorted(passages, key=lambda p: (p.document_id, p.document_digest, p.span))
    for before, after in pairwise([None, *by_place]):
        assert after is not None
        gap = _gap(before, after, texts)
        cost = count_tokens(gap) if gap and gap.strip() else 0
        if gap is None or cost > spare:
            groups.append([after])
            continue
        spare -= cost
        groups[-1].append(after)
    joined = [_join(sorted(group, key=lambda p: order[p.id]), texts) for group in groups]
    return sorted(joined, key=lambda p: order[p.id])


def _gap(before: Passage | None, after: Passage, texts: Mapping[str, str]) -> str | None:
    """Text between two neighbours, None when they are not."""
    if before is None or before.document_digest != after.document_digest or before.document_id != after.document_id:
        return None
    text = texts.get(after.document_digest)
    if text is None or after.span.start < before.span.end:
        return None
    between = text[before.span.end : after.span.start]
    near = len(between) <= _MAX_GAP and before.heading == after.heading
    return between if not between.strip() or near else None


def _join(group: Sequence[Passage], texts: Mapping[str, str]) -> Passage:
    best = group[0]
    if len(group) == 1:
        return best
    span = Span(min(p.span.start for p in group), max(p.span.end for p in group))
    first = min(group, key=lambda p: p.span)
    return replace(
        best,
        span=span,
        text=texts[best.document_digest][span.start : span.end],
        page=first.page,
        heading=_common([p.heading for p in group]),
    )


def _common(headings: Sequence[str]) -> str:
    """The headings all of them share."""
    shared = headings[0].split(HEADING_SEPARATOR)
    for heading in headings[1:]:
        parts = heading.split(HEADING_SEPARATOR)
        while shared != parts[: len(shared)]:
            shared = shared[:-1]
    return HEADING_SEPARATOR.join(shared)
