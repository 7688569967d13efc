"""The door of grounding: select evidence, assess it, check sentences against it, quote it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

from interlock.core.answers import Option
from interlock.core.context import Context
from interlock.core.passages import Passage
from interlock.core.ports import Embedder
from interlock.knowledge.analysers import analyse
from interlock.knowledge.checkers import checkers
from interlock.knowledge.grounding import answerability, clarifying, rows, support
from interlock.knowledge.grounding.asks import asked_kind, holds
from interlock.knowledge.grounding.claims import Piece, split
from interlock.knowledge.grounding.clarifying import Replied
from interlock.knowledge.grounding.contradictions import Conflict, contradictions
from interlock.knowledge.grounding.quoting import EvidenceQuoter
from interlock.knowledge.grounding.select import Selector
from interlock.knowledge.grounding.support_features import nearest
from interlock.knowledge.grounding.types import (
    AnswerSpec,
    Assessment,
    CheckerSpec,
    Evidence,
    Judged,
    Match,
    Reason,
    Selection,
    Verdict,
)
from interlock.knowledge.ports import AskModel, Checker, Reader
from interlock.knowledge.retrieval.types import Turn
from interlock.knowledge.types import SupportCase, SupportScore

__all__ = ["Grounding", "ReadText"]

_TRIED = 40
"""Sentences a claim is checked against at most, nearest first: about 5 ms."""

ReadText = Callable[[Context, Passage], Awaitable[str | None]]
"""The whole extracted text behind a passage, or None when it cannot be had; for table headers only."""


class Grounding:
    """Stateless; one instance serves all requests.

    Args:
        embedder: the one that embedded the passages, or any other.
        reader: judges the best sentences; None leaves selection and answerability to words and meaning.
        read_text: lets a table row find the header that stands before its passage.
        models: folder in which checkers find weights of the user's own.
        threads: CPU threads of one checker.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        reader: Reader | None = None,
        read_text: ReadText | None = None,
        models: Path | None = None,
        threads: int = 1,
    ) -> None:
        self._selector = Selector(embedder, reader)
        self._read_text = read_text
        self._models = models or Path()
        self._threads = threads
        self._checkers: dict[tuple[str, str], Checker] = {}
        self.quoter = EvidenceQuoter(self._selector)

    async def select(self, ctx: Context, question: str, passages: Sequence[Passage], spec: AnswerSpec) -> Selection:
        """Evidence for `question`, best first. CPU heavy: embeds up to 32 sentences."""
        return await self._selector.select(question, passages, spec, texts=await self._texts(ctx, passages))

    def assess(self, question: str, selection: Selection) -> Assessment:
        """Calibrated probability that the evidence answers the question."""
        return answerability.assess(question, selection)

    def check(self, claim: str, evidence: Evidence, spec: AnswerSpec, *, question: str = "") -> Verdict:
        """Whether `claim` says no more and nothing else than `evidence`.

        Args:
            question: when given, a claim that left out the kind of value asked for is refused too.
        """
        verdict = support.check_evidence(claim, evidence)
        if not verdict.supported:
            return verdict
        kind = asked_kind(question)
        beside = question and holds(kind, evidence.readable) and not holds(kind, claim)
        return Verdict(False, verdict.score, "dropped") if beside or verdict.score < spec.min_support else verdict

    def checker(self, spec: CheckerSpec) -> Checker:
        """The checker that an app names. Raises: InvalidInput (no such kind), Misconfigured, MissingExtra."""
        key = (spec.kind, spec.model)
        if key not in self._checkers:
            plugin = checkers.get(spec.kind)
            self._checkers[key] = plugin.open(spec.model, models=self._models, threads=self._threads)
        return self._checkers[key]

    def contradictions(self, selection: Selection) -> tuple[Conflict, ...]:
        """What other documents say against the chosen evidence."""
        return contradictions(selection)

    def options(self, question: str, selection: Selection, spec: AnswerSpec) -> tuple[Option, ...]:
        """How an underspecified question may be read, for apps that ask back; empty when it is clear enough."""
        return clarifying.options(question, selection, spec.clarify_by) if spec.clarify else ()

    def replied(self, question: str, earlier: Sequence[Turn], spec: AnswerSpec) -> Replied | None:
        """What a reply to a question back means; None for anything else."""
        return clarifying.replied(question, earlier, spec.clarify_by) if spec.clarify else None

    async def judge(
        self,
        sentence: str,
        selection: Selection,
        numbers: Sequence[int],
        spec: AnswerSpec,
        *,
        ask: AskModel | None = None,
    ) -> tuple[Judged, ...]:
        """Every claim of a written sentence with its evidence and verdict.

        A near-copy needs no second opinion; whatever the strict rules refuse is the app's checker's.

        Args:
            sentence: without markers.
            numbers: passages the writer named, 1-based; they are tried first.
            ask: a model for checkers that ask one.

        Raises: what opening the checker raises, ModelMissing, MissingExtra, Misconfigured.
        """
        whole = self.best_support(sentence, selection, numbers, spec)
        if whole is not None and whole.verdict.supported:
            return tuple(_judged(piece, whole) for piece in split(sentence))
        found = [(piece, self.best_support(piece.reads, selection, numbers, spec)) for piece in split(sentence)]
        open_ones = [
            (i, _case(piece, match.evidence, selection))
            for i, (piece, match) in enumerate(found)
            if match is not None and not match.verdict.supported
        ]
        judged = [_judged(piece, match) for piece, match in found]
        if open_ones:
            checker = self.checker(spec.checker)
            limit = checker.threshold if spec.checker.threshold is None else spec.checker.threshold
            scores = await checker.check([case for _, case in open_ones], ask)
            for (i, _), score in zip(open_ones, scores, strict=True):
                piece, match = found[i]
                judged[i] = _judged(piece, match, _verdict(score, limit), spec.checker.kind)
        return tuple(judged)

    def fact(self, question: str, evidence: Evidence) -> str:
        """The evidence as one fact to restate: a row is cut to its name and the columns asked for."""
        return rows.fact(rows.focused(question, evidence, self._selector.words))

    def worded(self, question: str, evidence: Evidence) -> str | None:
        """A row's fact as a plain sentence, for a last try; None for a sentence, which is one already."""
        return rows.worded(rows.focused(question, evidence, self._selector.words)) if evidence.is_row else None

    def best_support(self, claim: str, selection: Selection, numbers: Sequence[int], spec: AnswerSpec) -> Match | None:
        """The evidence that supports `claim` best, or the nearest one when none does.

        Args:
            numbers: passages the writer named, 1-based; they are tried first, then all others.

        Returns: None when the claim shares no word with any passage.
        """
        said = set(analyse(claim))
        near = [(len(said & set(analyse(f"{unit.heading} {unit.readable}"))), unit) for unit in selection.units]
        ranked = sorted(
            ((overlap, unit) for overlap, unit in near if overlap),
            key=lambda pair: (pair[1].rank not in numbers, -pair[0]),
        )
        if not ranked:
            return None
        matches = [Match(unit, self.check(claim, unit, spec)) for _, unit in ranked[:_TRIED]]
        supported = [match for match in matches if match.verdict.supported]
        if supported:
            return max(supported, key=lambda match: match.verdict.score)
        return Match(max(ranked, key=lambda pair: pair[0])[1], matches[0].verdict)

    async def _texts(self, ctx: Context, passages: Sequence[Passage]) -> Mapping[str, str]:
        if self._read_text is None:
            return {}
        texts: dict[str, str] = {}
        for passage in passages:
            if " | " in passage.text and passage.document_digest not in texts:
                text = await self._read_text(ctx, passage)
                if text is not None:
                    texts[passage.document_digest] = text
        return texts


def _judged(piece: Piece, match: Match | None, verdict: Verdict | None = None, checker: str = "rules") -> Judged:
    if match is None:
        return Judged(piece.span, piece.text, piece.reads, None, Verdict(False, 0.0, "foreign"), checker)
    return Judged(piece.span, piece.text, piece.reads, match.evidence, verdict or match.verdict, checker)


def _case(piece: Piece, evidence: Evidence, selection: Selection) -> SupportCase:
    """The claim against its passage: what a reader of the citation sees around it."""
    given = [unit for unit in selection.units if unit.passage.id == evidence.passage.id] or [evidence]
    texts = tuple(unit.readable for unit in given)
    return SupportCase(piece.reads, texts, nearest(piece.reads, texts), evidence.heading)


def _verdict(score: SupportScore, limit: float) -> Verdict:
    likely = min(1.0, max(0.0, score.probability))
    if likely >= limit:
        return Verdict(True, likely, "ok")
    # A checker of somebody else's may have words of its own.
    known = score.reason in get_args(Reason) and score.reason != "ok"
    return Verdict(False, likely, cast(Reason, score.reason) if known else "unlike")
