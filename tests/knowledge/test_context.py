from __future__ import annotations

from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Passage, Span
from interlock.knowledge.context import assemble

TEXT = "Alpha one is here now.\n\nBeta two is there then.\n\nGamma three is far away."


def words(text):
    return len(text.split())


def passage(start, end, *, doc="a", score=0.5, text=TEXT, heading="H", **metadata):
    return Passage(
        PassageId(f"{doc}{start}"), DocumentId(doc), f"sha256:{doc}", f"{doc}.md", doc, heading, text[start:end],
        Span(start, end), score=score, metadata=tuple(sorted(metadata.items())),
    )  # fmt: skip


ALPHA, BETA, GAMMA = (0, 22), (24, 47), (49, 73)


def test_neighbours_become_one_exact_span_where_the_best_of_them_stood():
    found = [passage(*BETA, score=0.9), passage(0, 9, doc="b", text="Other day", score=0.8), passage(*ALPHA, score=0.1)]
    merged = assemble(found, budget_tokens=100, count_tokens=words, texts={"sha256:a": TEXT})
    assert [(p.document_id, p.span, p.score) for p in merged] == [("a", Span(0, 47), 0.9), ("b", Span(0, 9), 0.8)]
    assert merged[0].text == TEXT[0:47]
    assert merged[0].id == "a24"


def test_a_small_hole_between_neighbours_is_filled_when_the_budget_allows():
    found = [passage(*ALPHA), passage(*GAMMA)]
    texts = {"sha256:a": TEXT}
    assert [p.span for p in assemble(found, budget_tokens=100, count_tokens=words, texts=texts)] == [Span(0, 73)]
    apart = assemble(found, budget_tokens=11, count_tokens=words, texts=texts)
    assert [p.span for p in apart] == [Span(*ALPHA), Span(*GAMMA)]


def test_the_budget_is_kept_and_smaller_passages_may_follow():
    found = [passage(*ALPHA), passage(0, 9, doc="b", text="Other day " + "x " * 50), passage(*GAMMA, doc="c")]
    kept = assemble(found, budget_tokens=7, count_tokens=words)
    assert [p.document_id for p in kept] == ["a", "b"]
    assert sum(words(p.text) for p in kept) <= 7


def test_repeated_text_is_kept_once():
    found = [passage(*ALPHA), passage(*ALPHA, doc="copy"), passage(*GAMMA)]
    kept = assemble(found, budget_tokens=100, count_tokens=words)
    assert [p.document_id for p in kept] == ["a", "a"]


def test_withdrawn_documents_give_way_to_current_ones():
    old = passage(*ALPHA, doc="old", status="withdrawn")
    new = passage(*BETA, doc="new", status="current")
    assert [p.document_id for p in assemble([old, new], budget_tokens=99, count_tokens=words)] == ["new"]
    both = assemble([old, new], budget_tokens=99, count_tokens=words, keep_withdrawn=True)
    assert [p.document_id for p in both] == ["new", "old"]
    assert [p.document_id for p in assemble([old], budget_tokens=99, count_tokens=words)] == ["old"]


def test_no_passages_give_no_evidence():
    assert assemble([], budget_tokens=10, count_tokens=words) == []
