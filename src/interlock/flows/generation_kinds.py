"""How each kind of case is made of a passage: by a model that passed its trials, else by rule; checked either way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from interlock.core.clock import Deadline
from interlock.core.context import Context
from interlock.core.errors import NotFound
from interlock.core.ids import DocumentId
from interlock.core.passages import Passage
from interlock.evals.synthetic import asking
from interlock.evals.synthetic.types import Candidate, Fault, Kind
from interlock.evals.synthetic.wording import changed_figure, misspelt, numbers_of, reworded
from interlock.flows.asking_of_passages import CALL_S, Writer, is_found
from interlock.flows.generation_cases import Builder, Seed, span_of
from interlock.knowledge.analysers import analyse
from interlock.knowledge.languages import asked_in, languages_of
from interlock.knowledge.questions.checks import weakness_of
from interlock.knowledge.questions.drafting import drafts_of
from interlock.knowledge.questions.types import Draft, Weakness
from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.types import HEADING_SEPARATOR

__all__ = ["Maker", "OutOfMoney", "Sources"]

_DRAFTS = 3
_TURNS = 3
_SHORT_WORDS = 8
"""Answers of so many words are facts that an answer must hold; longer ones are only shown to people."""
_NEIGHBOURS = 3
"""Other documents that are planted beside one from which a passage was removed."""
_MOST_PLANTED = 12_000
_STILL_THERE = 0.6
"""Share of the answer's words in one remaining passage from which it may still be answered."""
_SAME_WORDS = 0.8

_SENTENCES: frozenset[Kind] = frozenset({"multi_hop", "unanswerable", "contradiction", "conversation"})
"""Kinds that need a question, not a phrase."""
_Found = Candidate | Fault
_IsKnown = Callable[[str], bool]
_FAULTS: dict[Weakness, Fault] = {
    "too_short": "too_short",
    "too_long": "too_long",
    "not_quoted": "not_quoted",
    "refers_to_passage": "refers_to_passage",
    "copied": "copied",
    "answers_itself": "answers_itself",
    "not_found": "not_found",
    "duplicate": "duplicate",
}


class OutOfMoney(Exception):
    """The budget is spent: nothing more is asked."""


@dataclass(slots=True)
class Sources:
    """What cases are made from."""

    knowledge: KnowledgeService
    collection: str
    writer: Writer | None
    """None: nothing is asked of a model."""
    user: str
    by: str

    async def ask(self, ctx: Context, prompt: str) -> str:
        """What the model says. Raises: OutOfMoney; what a call of the gateway raises."""
        assert self.writer is not None, "kinds ask only where there is a model"
        if self.writer.is_spent:
            raise OutOfMoney
        return await self.writer.ask(ctx, prompt)


class _Left(NamedTuple):
    """What is left of a document."""

    document: DocumentId
    source: str
    text: str


class Maker:
    """Makes cases of one run.

    Args:
        languages: of cases in other languages, in turn.
        personas: of conversations, in turn.
    """

    def __init__(self, sources: Sources, *, languages: Sequence[str], personas: Sequence[str]) -> None:
        self._sources = sources
        self._build = Builder(sources.collection, sources.user, sources.by)
        self._languages = list(languages)
        self._personas = list(personas)
        self._last: Seed | None = None
        self._before: Passage | None = None
        self._held: tuple[str, list[Seed], list[Fault]] = ("", [], [])

    def passed(self, passage: Passage) -> None:
        """Of this passage nothing more is made."""
        self._before = passage

    async def make(self, ctx: Context, kind: Kind, passage: Passage, is_known: _IsKnown) -> AsyncGenerator[_Found]:
        """Good cases of one kind, and why others were thrown away, as they are found; stop when you have enough."""
        if kind == "unanswerable" and self._sources.writer is not None:
            async with aclosing(self._off_topic(ctx, passage, is_known)) as found:
                async for each in found:
                    yield each
            return
        seeds, faults = await self._seeds(ctx, passage)
        if kind == "single_hop" and faults:
            for fault in faults:
                yield fault
            if not seeds:
                return
        if kind in _SENTENCES:
            # A heading is what somebody types into a search, and no question.
            seeds = [seed for seed in seeds if seed.hand != "rule: heading"]
        if not seeds:
            yield "nothing_to_ask"
            return
        if kind == "multi_hop":
            stream = self._two_hops(ctx, seeds[0], is_known)
        elif kind == "conversation":
            stream = self._conversation(ctx, passage, seeds, is_known)
        else:
            make = {
                "single_hop": self._single,
                "unanswerable": self._removed,
                "contradiction": self._contradicted,
                "paraphrase": self._paraphrased,
                "typo": self._misspelt,
                "language": self._translated,
            }[kind]
            stream = make(ctx, seeds, is_known)
        async with aclosing(stream):
            async for each in stream:
                yield each

    async def _seeds(self, ctx: Context, passage: Passage) -> tuple[list[Seed], list[Fault]]:
        """Questions that the passage answers, checked; asked for once for all kinds."""
        if self._held[0] == passage.id:
            return self._held[1], self._held[2]
        self._last = _asking(self._held[1]) or self._last
        seeds, faults = await self._checked(ctx, passage)
        self._held = (passage.id, seeds, faults)
        return seeds, faults

    async def _checked(self, ctx: Context, passage: Passage) -> tuple[list[Seed], list[Fault]]:
        seeds: list[Seed] = []
        faults: list[Fault] = []
        for draft, answer in await self._drafts(ctx, passage):
            fault = await self._fault(ctx, draft, answer, passage)
            if fault is not None:
                faults.append(fault)
                continue
            hand = "model" if draft.origin == "model" else f"rule: {draft.origin}"
            seeds.append(Seed(draft.text, answer, draft.quote, passage, hand))
        return seeds, faults

    async def _drafts(self, ctx: Context, passage: Passage) -> list[tuple[Draft, str]]:
        if self._sources.writer is None:
            return [(draft, _answer_of(draft)) for draft in drafts_of(passage)][: 2 * _DRAFTS]
        said = await self._sources.ask(ctx, asking.ask_single(passage.text, _title(passage), _DRAFTS))
        return [
            (Draft(each.question, each.quote, "model"), each.answer or each.quote) for each in asking.written_in(said)
        ]

    async def _fault(self, ctx: Context, draft: Draft, answer: str, passage: Passage) -> Fault | None:
        weakness = weakness_of(draft, passage.text)
        if weakness is not None:
            return _FAULTS[weakness]
        if len(answer.split()) <= _SHORT_WORDS and answer.casefold() in draft.text.casefold():
            return "answers_itself"
        if not await self._is_found(ctx, draft.text, passage, draft.quote):
            return "not_found"
        if self._sources.writer is None:
            return None
        return await self._unread(ctx, draft.text, answer, [passage.text])

    async def _unread(self, ctx: Context, question: str, answer: str, texts: Sequence[str]) -> Fault | None:
        """Whether a model answers it from the texts, and does not without them."""
        if not asking.agrees(await self._sources.ask(ctx, asking.answer_from(question, texts)), answer):
            return "not_answerable"
        if asking.agrees(await self._sources.ask(ctx, asking.answer_without(question)), answer):
            return "known_without"
        return None

    async def _is_found(self, ctx: Context, question: str, passage: Passage, quote: str) -> bool:
        return await is_found(
            self._sources.knowledge,
            ctx,
            self._sources.collection,
            question,
            document=passage.document_id,
            span=span_of(passage, quote),
        )

    async def _single(self, ctx: Context, seeds: Sequence[Seed], is_known: _IsKnown) -> AsyncGenerator[_Found]:
        for seed in seeds:
            yield "duplicate" if is_known(seed.question) else self._build.variant("single_hop", seed, seed.question)

    async def _two_hops(self, ctx: Context, seed: Seed, is_known: _IsKnown) -> AsyncGenerator[_Found]:
        if self._last is None and self._before is not None and self._before.id != seed.passage.id:
            # A run that goes on has passed over what was done: it is asked about once more.
            earlier, _ = await self._checked(ctx, self._before)
            self._last = _asking(earlier)
        first = self._last
        if first is None or first.passage.id == seed.passage.id:
            yield "nothing_to_ask"
            return
        pair = (first.passage, seed.passage)
        if self._sources.writer is None:
            # Two questions in one: no rule links what two texts say.
            question = f"{first.question.rstrip('?')}, and {_lowered(seed.question)}"
            answers = [first.answer, seed.answer]
            fault: Fault | None = "duplicate" if is_known(question) else None
            quotes = (first.quote, seed.quote)
            yield fault or self._build.joined(question, pair, quotes, answers, f"{first.hand}, joined")
            return
        said = await self._sources.ask(ctx, asking.ask_two(pair[0].text, pair[1].text))
        written = asking.written_in(said)
        if not written:
            yield "malformed"
        for each in written:
            yield await self._linked(ctx, each, pair, is_known)

    async def _linked(
        self, ctx: Context, each: asking.Written, pair: tuple[Passage, Passage], is_known: _IsKnown
    ) -> _Found:
        first, second = pair
        weakness = weakness_of(Draft(each.question, each.quote, "model"), first.text)
        if weakness is not None:
            return _FAULTS[weakness]
        if not each.other_quote or each.other_quote not in second.text:
            return "not_quoted"
        if is_known(each.question):
            return "duplicate"
        fault = await self._unread(ctx, each.question, each.answer, [first.text, second.text])
        if fault is not None:
            return fault
        for one in pair:
            said = await self._sources.ask(ctx, asking.answer_from(each.question, [one.text]))
            if asking.agrees(said, each.answer):
                return "one_passage_is_enough"
        return self._build.joined(each.question, pair, (each.quote, each.other_quote), [each.answer], "model")

    async def _off_topic(self, ctx: Context, passage: Passage, is_known: _IsKnown) -> AsyncGenerator[_Found]:
        """A model asks what the passage does not say; whatever a search finds must not say it either."""
        said = await self._sources.ask(ctx, asking.ask_unanswerable(passage.text, _title(passage)))
        written = asking.written_in(said)
        if not written:
            yield "malformed"
        for each in written:
            weakness = weakness_of(Draft(each.question, passage.text, "model"), passage.text)
            if weakness is not None:
                yield _FAULTS[weakness]
                continue
            if is_known(each.question):
                yield "duplicate"
                continue
            context = replace(ctx, deadline=Deadline.after(CALL_S))
            found = await self._sources.knowledge.search(
                context, each.question, collection=self._sources.collection, limit=6
            )
            texts = [one.text for one in found] or [passage.text]
            if not asking.is_unknown(await self._sources.ask(ctx, asking.answer_from(each.question, texts))):
                yield "still_answerable"
                continue
            seed = Seed(each.question, "", "", passage, "model")
            yield self._build.variant("unanswerable", seed, each.question, answerable=False)

    async def _removed(self, ctx: Context, seeds: Sequence[Seed], is_known: _IsKnown) -> AsyncGenerator[_Found]:
        """A question whose passage is taken away: the rest of its document and its neighbours are planted."""
        for seed in seeds:
            if is_known(seed.question):
                yield "duplicate"
                continue
            left = await self._without(ctx, seed)
            if not left:
                yield "nothing_left"
                continue
            if any(_says(each.text, seed) for each in left):
                yield "still_answerable"
                continue
            planted = [{"name": each.source, "text": each.text} for each in left]
            beside = [each.document for each in left]
            yield self._build.variant(
                "unanswerable", seed, seed.question, answerable=False, planted=planted, beside=beside
            )

    async def _without(self, ctx: Context, seed: Seed) -> list[_Left]:
        """The documents that a search for the question finds, without the passage that answers it."""
        passage, knowledge = seed.passage, self._sources.knowledge
        context = replace(ctx, deadline=Deadline.after(CALL_S))
        found = await knowledge.search(context, seed.question, collection=self._sources.collection, limit=10)
        sources = {passage.document_id: passage.source}
        sources |= {one.document_id: one.source for one in found if one.document_id != passage.document_id}
        left: list[_Left] = []
        for document, source in list(sources.items())[: _NEIGHBOURS + 1]:
            with suppress(NotFound):  # deleted since
                text = (await knowledge.document_text(ctx, document)).text
                if document == passage.document_id:
                    text = text[: passage.span.start] + text[passage.span.end :]
                if text.strip():
                    left.append(_Left(document, source, text.strip()[:_MOST_PLANTED]))
        return left

    async def _contradicted(self, ctx: Context, seeds: Sequence[Seed], is_known: _IsKnown) -> AsyncGenerator[_Found]:
        """The passage twice, with one figure changed in the second: nobody can tell which holds."""
        for seed in seeds:
            changed = changed_figure(seed.quote)
            if changed is None or seed.passage.text.count(changed[1]) != 1 or changed[1] in seed.question:
                yield "nothing_to_ask"
                continue
            if is_known(seed.question):
                yield "duplicate"
                continue
            other, before, after = changed
            passage = seed.passage
            planted = [
                {"name": passage.source, "text": passage.text},
                {"name": f"{passage.source} (2)", "text": passage.text.replace(seed.quote, other)},
            ]
            yield self._build.variant(
                "contradiction",
                seed,
                seed.question,
                planted=planted,
                facts=[[before], [after]],
                expected=f"{before}; {after}",
            )

    async def _paraphrased(self, ctx: Context, seeds: Sequence[Seed], is_known: _IsKnown) -> AsyncGenerator[_Found]:
        for seed in seeds:
            if self._sources.writer is None:
                turned = reworded(seed.question)
                if turned is None:
                    yield "nothing_to_ask"
                else:
                    yield "duplicate" if is_known(turned) else self._build.variant("paraphrase", seed, turned)
                continue
            written = asking.written_in(await self._sources.ask(ctx, asking.ask_paraphrase(seed.question)))
            yield await self._variant(ctx, "paraphrase", seed, written, is_known) if written else "malformed"

    async def _misspelt(self, ctx: Context, seeds: Sequence[Seed], is_known: _IsKnown) -> AsyncGenerator[_Found]:
        for seed in seeds:
            slipped = misspelt(seed.question)
            if slipped is None:
                yield "nothing_to_ask"
            else:
                yield "duplicate" if is_known(slipped) else self._build.variant("typo", seed, slipped)

    async def _translated(self, ctx: Context, seeds: Sequence[Seed], is_known: _IsKnown) -> AsyncGenerator[_Found]:
        for seed in seeds:
            # By the question, so that going on after a death asks for the same language again.
            drawn = int.from_bytes(hashlib.sha256(seed.question.encode()).digest()[:4])
            language = self._languages[drawn % len(self._languages)]
            said = await self._sources.ask(ctx, asking.ask_translation(seed.question, language))
            written = asking.written_in(said)
            if not written:
                yield "malformed"
            elif asked_in(written[0].question, {language, *languages_of(seed.passage.text)[:1]}) != (language,):
                yield "other_language"
            else:
                yield await self._variant(ctx, "language", seed, written, is_known, language=language)

    async def _variant(
        self,
        ctx: Context,
        kind: Kind,
        seed: Seed,
        written: Sequence[asking.Written],
        is_known: _IsKnown,
        *,
        language: str = "",
    ) -> _Found:
        text = written[0].question
        if numbers_of(text) != numbers_of(seed.question):
            return "changed_numbers"
        if kind == "paraphrase" and _alike(text, seed.question) >= _SAME_WORDS:
            return "same_words"
        if is_known(text):
            return "duplicate"
        said = await self._sources.ask(ctx, asking.answer_from(text, [seed.passage.text]))
        if not asking.agrees(said, seed.answer):
            return "not_answerable"
        return self._build.variant(kind, seed, text, language=language)

    async def _conversation(
        self, ctx: Context, passage: Passage, seeds: Sequence[Seed], is_known: _IsKnown
    ) -> AsyncGenerator[_Found]:
        drawn = int.from_bytes(hashlib.sha256(passage.id.encode()).digest()[:4])
        persona = self._personas[drawn % len(self._personas)]
        if self._sources.writer is None:
            yield self._elliptical(passage, seeds, persona)
            return
        said = await self._sources.ask(ctx, asking.ask_conversation(passage.text, _title(passage), persona, _TURNS))
        turns = asking.written_in(said)[:_TURNS]
        if len(turns) < 2:
            yield "malformed"
            return
        if any(not each.quote or each.quote not in passage.text for each in turns):
            yield "not_quoted"
            return
        if _names_subject(turns[-1].question, passage, turns[0].question):
            yield "stands_alone"
            return
        asked = "\n".join(f"{each.question}\n{each.answer}" for each in turns[:-1]) + f"\n{turns[-1].question}"
        if not asking.agrees(await self._sources.ask(ctx, asking.answer_from(asked, [passage.text])), turns[-1].answer):
            yield "not_answerable"
            return
        played = [(each.question, each.answer, each.quote) for each in turns]
        yield self._build.dialogue(passage, played, persona, "model")

    def _elliptical(self, passage: Passage, seeds: Sequence[Seed], persona: str) -> _Found:
        """By rule: what somebody asks about a thing, and then only how many of what."""
        for seed in seeds:
            if seed.hand != "rule: quantity":
                continue
            unit = seed.question.split()[2]
            others = [other for other in seeds if other.quote != seed.quote]
            if not others or passage.text.casefold().count(unit.casefold()) != 1:
                continue
            opening = others[0]
            said = f"{asking.PERSONAS.get(persona, '')} {opening.question}".strip()
            turns = [
                (said, opening.quote, opening.quote),
                (f"and how many {unit}?", seed.answer, seed.quote),
            ]
            return self._build.dialogue(passage, turns, persona, "rule: ellipsis")
        return "nothing_to_ask"


def _asking(seeds: Sequence[Seed]) -> Seed | None:
    return next((seed for seed in seeds if seed.hand != "rule: heading"), None)


def _title(passage: Passage) -> str:
    return HEADING_SEPARATOR.join(each for each in (passage.title, passage.heading) if each)


def _answer_of(draft: Draft) -> str:
    """Of a quantity the figure with its unit; else the whole sentence."""
    if draft.origin != "quantity":
        return draft.quote
    unit = draft.text.split()[2]
    form = r"\d[\d.,]*\s*%" if unit == "percent" else rf"\d[\d.,]*\s+{re.escape(unit)}\b"
    found = re.search(rf"(?<![\w.,]){form}", draft.quote)
    return draft.quote if found is None else found[0]


def _lowered(question: str) -> str:
    first, _, rest = question.partition(" ")
    return f"{first.casefold()} {rest}" if first.istitle() else question


def _says(text: str, seed: Seed) -> bool:
    """Whether what is left may still answer: its figures, or most of the answer's words in one place."""
    wanted = set(analyse(seed.quote, ("en",))) - set(analyse(seed.question, ("en",)))
    numbers = numbers_of(seed.answer)
    places = [part for part in text.split("\n\n") if part.strip()]
    if numbers and any(numbers <= numbers_of(place) for place in places):
        return True
    if not wanted:
        return True
    return any(len(wanted & set(analyse(place, ("en",)))) >= _STILL_THERE * len(wanted) for place in places)


def _alike(one: str, other: str) -> float:
    first, second = set(analyse(one, ("en",))), set(analyse(other, ("en",)))
    return len(first & second) / len(first | second) if first | second else 1.0


def _names_subject(question: str, passage: Passage, first: str) -> bool:
    """Whether a follow-up can be understood by itself: it says what the passage, or the first question, is about."""
    subject = set(analyse(_title(passage), ("en",))) | set(analyse(first, ("en",)))
    own = set(analyse(question, ("en",)))
    return len(own & subject) >= max(1, len(own) / 2)
