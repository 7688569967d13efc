from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.knowledge.fusion import convex, min_max, rrf

ranking = st.lists(st.integers(0, 30), unique=True, max_size=15)
scores = st.dictionaries(st.integers(0, 30), st.floats(-1e6, 1e6), max_size=15)


def test_rrf_is_the_published_formula():
    assert rrf([["a", "b"], ["b", "c"]], k=60) == [
        ("b", pytest.approx(1 / 62 + 1 / 61)),
        ("a", pytest.approx(1 / 61)),
        ("c", pytest.approx(1 / 62)),
    ]


@given(st.lists(ranking, min_size=1, max_size=4), st.integers(1, 200))
def test_rrf_keeps_every_item_once_within_its_bounds(rankings, k):
    fused = rrf(rankings, k)
    assert {item for item, _ in fused} == {item for ranking in rankings for item in ranking}
    assert len({item for item, _ in fused}) == len(fused)
    assert all(0 < score <= len(rankings) / (k + 1) + 1e-12 for _, score in fused)
    assert [s for _, s in fused] == sorted((s for _, s in fused), reverse=True)


@given(ranking)
def test_rrf_of_one_ranking_or_of_two_equal_ones_keeps_its_order(items):
    assert [item for item, _ in rrf([items])] == items
    assert [item for item, _ in rrf([items, items])] == items


@given(st.lists(ranking, min_size=2, max_size=2))
def test_rrf_does_not_depend_on_the_order_of_the_legs(rankings):
    assert dict(rrf(rankings)) == pytest.approx(dict(rrf(rankings[::-1])))


@given(scores)
def test_min_max_keeps_order_and_bounds(values):
    scaled = min_max(values)
    assert scaled.keys() == values.keys()
    assert all(0 <= score <= 1 for score in scaled.values())
    assert all(scaled[a] <= scaled[b] for a in values for b in values if values[a] <= values[b])


@given(scores, scores, st.floats(0, 1))
def test_convex_keeps_every_item_once_within_its_bounds(dense, lexical, weight):
    fused = convex(dense, lexical, weight)
    assert {item for item, _ in fused} == dense.keys() | lexical.keys()
    assert all(-1e-12 <= score <= 1 + 1e-12 for _, score in fused)
    assert [s for _, s in fused] == sorted((s for _, s in fused), reverse=True)


@given(scores, scores)
def test_convex_at_its_ends_is_one_leg(dense, lexical):
    scaled = dict(convex(dense, lexical, 1.0))
    assert all(scaled[item] == score for item, score in min_max(dense).items())


@given(scores, st.sampled_from([0.5, 2.0, 8.0]), st.integers(-100, 100))
def test_convex_does_not_depend_on_a_legs_scale(dense, factor, shift):
    dense = {item: float(round(score)) for item, score in dense.items()}
    moved = {item: score * factor + shift for item, score in dense.items()}
    assert dict(convex(moved, {}, 1.0)) == pytest.approx(dict(convex(dense, {}, 1.0)))


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_convex_refuses_a_weight_outside_its_range(weight):
    with pytest.raises(ValueError, match="weight"):
        convex({}, {}, weight)


def test_rrf_refuses_k_below_one():
    with pytest.raises(ValueError, match="k must"):
        rrf([], 0)
