"""What every reranker promises, as one suite.

A plug-in's author derives a test class and gives one that is ready to read::

    class TestMine(RerankerConformance):
        name = "mine"

        def surroundings(self, tmp_path: Path) -> RerankerSurroundings:
            return RerankerSurroundings(models=tmp_path, threads=1, model="mine", ...)
"""

from __future__ import annotations

import math
from pathlib import Path

from interlock.core.context import Context, Principal
from interlock.core.ids import DocumentId, PassageId, PrincipalId, TenantId
from interlock.core.passages import Passage, Span
from interlock.knowledge.retrieval.ports import RerankerSurroundings
from interlock.knowledge.retrieval.rerankers import rerankers

__all__ = ["RerankerConformance"]


class RerankerConformance:
    """Derive it, set `name`, and give the surroundings with whatever model the reranker needs."""

    name: str

    def surroundings(self, tmp_path: Path) -> RerankerSurroundings:
        """Where it runs, model included; the allowance lets it make three calls at least."""
        raise NotImplementedError

    async def test_it_gives_one_finite_score_for_each_passage(self, tmp_path: Path) -> None:
        """Also beyond one batch."""
        reranker = rerankers.get(self.name).open(self.surroundings(tmp_path))
        for count in (1, 9, 17):
            scores = await reranker.rerank(_context(), "may hardware be returned", _passages(count))
            assert len(scores) == count
            assert all(math.isfinite(score) for score in scores)

    async def test_nothing_is_read_for_no_passages(self, tmp_path: Path) -> None:
        """A search may find nothing."""
        reranker = rerankers.get(self.name).open(self.surroundings(tmp_path))
        assert list(await reranker.rerank(_context(), "may hardware be returned", [])) == []

    async def test_texts_of_any_kind_are_read(self, tmp_path: Path) -> None:
        """Empty, long, in any script, and a question that is too long."""
        reranker = rerankers.get(self.name).open(self.surroundings(tmp_path))
        odd = [
            "",
            " ",
            "word " * 5000,
            "الإرجاع",
            "返品は三十日以内",
            "a\x00b",
            "[1] > [2]",
            "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        ]
        passages = [_passage(number, text) for number, text in enumerate(odd)]
        scores = await reranker.rerank(_context(), "why " * 2000, passages)
        assert len(scores) == len(odd)
        assert all(math.isfinite(score) for score in scores)

    def test_its_identity_is_the_same_twice_and_names_it(self, tmp_path: Path) -> None:
        """So that releases can pin it."""
        given = self.surroundings(tmp_path)
        plugin = rerankers.get(self.name)
        assert plugin.identity(given.models, given.model) == plugin.identity(given.models, given.model)
        assert plugin.identity(given.models, given.model).startswith(f"{self.name}:")


def _context() -> Context:
    return Context(TenantId("acme"), Principal(PrincipalId("svc"), "service"))


def _passages(count: int) -> list[Passage]:
    return [
        _passage(number, f"Hardware of kind {number} may be returned within {number} days.") for number in range(count)
    ]


def _passage(number: int, text: str) -> Passage:
    return Passage(
        id=PassageId(f"psg_{number}"),
        document_id=DocumentId(f"doc_{number}"),
        document_digest="sha256:0",
        source=f"{number}.md",
        title=f"Part {number}",
        heading="",
        text=text,
        span=Span(0, len(text)),
    )
