from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha

A = [int(one) for one in "1301310333312323201212130200211132133100"]
B = [int(one) for one in "1301310312312300101212100100111032313100"]
# Krippendorff, Computing Krippendorff's alpha-reliability (2011), the example C: twelve units, four observers.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
# Fleiss' example as usually given: fourteen raters, ten subjects, five categories.
SUBJECTS = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1), (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("none", 0.6296296296296297), ("linear", 0.623015873015873), ("quadratic", 0.6183953033268101)],
)
def test_kappa_is_that_of_scikit_learn(weights, expected):
    assert cohen_kappa(A, B, order=[0, 1, 2, 3], weights=weights) == pytest.approx(expected, abs=1e-12)


def test_fleiss_kappa_is_that_of_the_published_example():
    assert fleiss_kappa([dict(enumerate(row)) for row in SUBJECTS]) == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize(("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_the_published_example(level, expected):
    items = [list(column) for column in zip(*OBSERVERS, strict=True)]
    assert krippendorff_alpha(items, level) == pytest.approx(expected, abs=6e-4)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_whoever_agrees_with_themselves_agrees_fully(labels):
    assert cohen_kappa(labels, labels) == 1
    assert fleiss_kappa([{label: 3} for label in labels]) == 1
    assert krippendorff_alpha([[label, label] for label in labels], "ordinal") == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_agreement_does_not_depend_on_who_is_first(pairs):
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    assert cohen_kappa(ours, theirs) == pytest.approx(cohen_kappa(theirs, ours))
    assert krippendorff_alpha(pairs) == pytest.approx(krippendorff_alpha([(b, a) for a, b in pairs]))


@pytest.mark.parametrize(
    "call",
    [
        lambda: cohen_kappa([], []),
        lambda: cohen_kappa([1], [1, 2]),
        lambda: cohen_kappa([1], [2], weights="linear"),
        lambda: cohen_kappa([1], [2], order=[1]),
        lambda: fleiss_kappa([{1: 2}, {1: 3}]),
        lambda: fleiss_kappa([{1: 1}]),
        lambda: krippendorff_alpha([[1, None], [None, 2]]),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(ValueError, match=r"rater|order"):
        call()
