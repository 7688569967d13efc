"""Team drafts are fair, whole and credited to whom they are owed."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Citation, Passage, Span
from interlock.knowledge.retrieval.interleaving import credit, team_draft


def passage(n: int) -> Passage:
    return Passage(
        PassageId(f"p{n}"), DocumentId(f"d{n // 2}"), "", "", "", "", "", Span(100 * (n % 2), 100 * (n % 2) + 100)
    )


def citation(n: int, start: int = 10) -> Citation:
    of = passage(n)
    at = Span(of.span.start + start, of.span.start + start + 20)
    return Citation(1, of.id, of.document_id, "", "", "", None, at, "", "supported", 1.0)


ranking = st.lists(st.integers(0, 12), unique=True, max_size=10)


@given(ranking, ranking, st.integers(1, 8), st.integers(0, 1000))
def test_a_draft_has_each_passage_once_and_as_many_as_there_are(
    a: list[int], b: list[int], limit: int, seed: int
) -> None:
    drafted = team_draft([passage(n) for n in a], [passage(n) for n in b], limit=limit, draw=random.Random(seed))
    shown = [each.id for each in drafted.passages]
    assert len(set(shown)) == len(shown) == min(limit, len({*a, *b}))
    for each, team in zip(drafted.passages, drafted.teams, strict=True):
        n = int(each.id[1:])
        assert n in {"control": a, "variant": b, "both": [x for x in a if x in b]}[team]
        if n in a[:limit] and n in b[:limit]:
            assert team == "both", "it would be there with either"


@given(ranking, ranking, st.integers(0, 1000))
def test_each_ranking_keeps_its_order_and_neither_is_far_ahead(a: list[int], b: list[int], seed: int) -> None:
    apart = [n + 100 for n in b]
    drafted = team_draft([passage(n) for n in a], [passage(n) for n in apart], limit=6, draw=random.Random(seed))
    own = [int(p.id[1:]) for p, team in zip(drafted.passages, drafted.teams, strict=True) if team == "control"]
    assert own == a[: len(own)]
    if len(a) >= 6 and len(b) >= 6:
        assert drafted.teams.count("control") == drafted.teams.count("variant") == 3


def test_equal_rankings_speak_for_nobody() -> None:
    same = [passage(n) for n in range(5)]
    drafted = team_draft(same, same, limit=5, draw=random.Random(1))
    assert list(drafted.passages) == same
    assert set(drafted.teams) == {"both"}
    assert credit(drafted, [citation(0), citation(3)]) == (0, 0)


def test_credit_goes_to_whom_the_cited_span_belongs_and_once() -> None:
    drafted = team_draft([passage(0), passage(2)], [passage(1), passage(2)], limit=3, draw=random.Random(1))
    assert credit(drafted, [citation(0), citation(0, 40), citation(1), citation(2)]) == (1, 1)
    assert credit(drafted, [citation(1)]) == (0, 1)
    assert credit(drafted, [citation(5)]) == (0, 0), "what was never shown"


def test_who_picks_first_is_a_fair_coin() -> None:
    first = [team_draft([passage(0)], [passage(1)], limit=2, draw=random.Random(seed)).teams[0] for seed in range(1000)]
    assert 430 <= first.count("control") <= 570
