"""Evidence in the order asked for, widened to its sections, exact to the character and under the budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knowledge.conftest import caller

from interlock.knowledge.retrieval.diversity import capped, mmr
from interlock.knowledge.retrieval.merging import merged
from interlock.knowledge.retrieval.packing import ordered, widened
from interlock.knowledge.retrieval.reranking import reordered
from interlock.knowledge.retrieval.settings import PackingSettings
from interlock.knowledge.types import HEADING_SEPARATOR

from .conftest import passage

WIDE = PackingSettings(sections=True, section_tokens=400)


def ids(passages):
    return [p.id.removeprefix("psg_") for p in passages]


def test_passages_are_put_in_the_order_asked_for():
    given = [
        passage(1, "aa", document="x", start=50),
        passage(2, "bb", document="y", start=0),
        passage(3, "cc", document="x", start=10),
        passage(4, "dd", document="y", start=90),
        passage(5, "ee", document="x", start=70),
    ]
    assert ids(ordered(given, "best_first")) == ["1", "2", "3", "4", "5"]
    assert ids(ordered(given, "best_at_ends")) == ["1", "3", "5", "4", "2"]
    assert ids(ordered(given, "document_order")) == ["3", "1", "5", "2", "4"]


@st.composite
def documents(draw):
    """A document cut into passages under headings, some of them chosen, and a budget in characters."""
    text, pieces = "", []
    for number in range(draw(st.integers(1, 12))):
        own = draw(st.text("ab \n", min_size=1, max_size=12))
        heading = draw(st.sampled_from(["A", f"A{HEADING_SEPARATOR}B", "C", ""]))
        pieces.append(passage(number, own, document="x", start=len(text), heading=heading))
        text += own + draw(st.sampled_from(["", "\n\n"]))
    chosen = draw(st.lists(st.sampled_from(pieces), unique_by=lambda p: p.id, max_size=5))
    return text, pieces, chosen, draw(st.integers(0, 200)), draw(st.integers(50, 120))


@given(documents())
def test_a_widened_passage_is_what_the_document_says_and_fits(drawn):
    text, pieces, chosen, spare, section = drawn
    budget = sum(len(p.text) for p in chosen) + spare
    found = widened(
        chosen,
        PackingSettings(sections=True, section_tokens=section),
        neighbours={chosen[0].document_id: pieces} if chosen else {},
        texts={"sha256:0": text},
        budget_tokens=budget,
        count_tokens=len,
    )
    assert ids(found) == ids(chosen)
    assert sum(len(p.text) for p in found) <= budget
    for before, after in zip(chosen, found, strict=True):
        assert after.text == text[after.span.start : after.span.end]
        assert after.span.start <= before.span.start and before.span.end <= after.span.end
        assert len(after.text) <= max(section, len(before.text))
        # Nothing of another section came in.
        strangers = [
            p
            for p in pieces
            if not (p.heading == before.heading or p.heading.startswith(before.heading + HEADING_SEPARATOR))
        ]
        if before.heading:
            assert all(p.span.end <= after.span.start or after.span.end <= p.span.start for p in strangers)
    for n, one in enumerate(found):
        for other in found[n + 1 :]:
            assert one.span.end <= other.span.start or other.span.end <= one.span.start


async def test_sections_of_real_documents_are_quoted_exactly(house):
    lines = "\n\n".join(
        f"Rule {n} says that part {n} of the lamp is kept dry at all times and in all places." * 3 for n in range(8)
    )
    house.write("lamp.md", f"# Lamp\n\n## Care\n\n{lines}\n\n## Other\n\nNothing of the kind.\n")
    await house.ingest()
    found = await house.search("rule 4 says", limit=1)
    ctx = caller()
    [narrow] = await house.knowledge.evidence(ctx, found, budget_tokens=2000)
    [wide] = await house.knowledge.evidence(ctx, found, budget_tokens=2000, packing=WIDE)
    text = (await house.knowledge.document_text(ctx, wide.document_id, wide.document_digest)).text
    assert wide.text == text[wide.span.start : wide.span.end]
    assert narrow.text in wide.text and len(wide.text) > len(narrow.text)
    assert "Nothing of the kind" not in wide.text
    assert wide.id == narrow.id
    assert house.embedder.count_tokens(wide.text) <= max(400, house.embedder.count_tokens(narrow.text))
    [tight] = await house.knowledge.evidence(
        ctx, found, budget_tokens=house.embedder.count_tokens(narrow.text), packing=WIDE
    )
    assert tight == narrow


async def test_a_section_that_may_no_longer_be_read_is_not_widened(house):
    house.write("lamp.md", "# Lamp\n\nThe lamp is lit.\n\n" + "More of the lamp. " * 200)
    await house.ingest()
    found = await house.search("the lamp is lit", limit=1)
    await house.ingest(permissions=[{"match": "**", "readers": ["group:none"]}])
    assert [p.span for p in await house.knowledge.evidence(caller(), found, budget_tokens=2000, packing=WIDE)] == [
        p.span for p in found
    ]


ranked = st.lists(st.tuples(st.text("abc ", max_size=12), st.integers(0, 3), st.floats(0, 1)), max_size=12).map(
    lambda rows: [
        passage(n, text, document=document, score=score)
        for n, (text, document, score) in enumerate(sorted(rows, key=lambda row: -row[2]))
    ]
)


@given(ranked, st.floats(0, 1), st.integers(1, 5), st.integers(0, 12))
def test_reordering_loses_nothing_and_keeps_scores_falling(passages, share, most, head):
    read = passages[: max(2, head)]
    for after, moved in (
        mmr(passages, share, head=head),
        capped(passages, most),
        reordered(passages, read, [float(-n) for n in range(len(read))], weight=share),
    ):
        assert sorted(ids(after)) == sorted(ids(passages))
        scores = [p.score for p in after]
        assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
        assert 0 <= moved <= len(passages)
    first = [p.document_id for p in capped(passages, most)[0]]
    kept = [d for n, d in enumerate(first) if first[: n + 1].count(d) <= most]
    assert first[: len(kept)] == kept


def test_relevance_alone_changes_nothing():
    given = [passage(n, "the same text", score=1 - n / 10) for n in range(5)]
    assert mmr(given, 1.0, head=5) == (given, 0)


rankings = st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 1)), unique_by=lambda pair: pair[0]).map(
    lambda pairs: sorted(pairs, key=lambda pair: -pair[1])
)


@given(rankings, st.lists(rankings, max_size=4), st.sampled_from(["mean", "best"]))
def test_merged_rankings_hold_everything_once_within_bounds(main, others, how):
    found = merged(main, others, how)
    assert {p for p, _ in found} == {p for ranking in (main, *others) for p, _ in ranking}
    assert len(found) == len({p for p, _ in found})
    assert all(0 <= score <= 1 + 1e-9 for _, score in found)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert merged(main, [], how) == main


@pytest.mark.parametrize("scores", [[1.0], [1.0, float("nan")], []])
def test_a_reranker_that_gives_no_scores_is_refused(scores):
    from interlock.knowledge.retrieval.types import StepFailed

    given = [passage(1), passage(2)]
    with pytest.raises(StepFailed):
        reordered(given, given, scores, weight=1.0)
