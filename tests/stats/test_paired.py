from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.stats.intervals import wilson
from interlock.stats.paired import bca_interval, cases_needed, grouped, holm, permutation_p

GAPS = [-0.352, 0.125, 1.964, 0.959, -1.341, 0.295, -0.323, 0.449, -1.308, 0.542]
VALUES = [
    0.805, 0.062, 0.501, 0.3, 2.524, 0.785, 0.871, 0.625, 1.275, 0.055, 0.238, 0.049, 0.991, 0.728, 0.09, 0.598, 1.124,
    0.716, 1.309, 1.18, 0.984, 0.07, 0.254, 2.303, 0.32, 2.854, 2.003, 1.013, 1.32, 0.076, 0.304, 0.156, 0.623, 2.981,
    5.64, 2.81, 0.742, 0.01, 0.57, 0.661,
]  # fmt: skip


@pytest.mark.parametrize(
    ("alternative", "expected"), [("two-sided", 0.759765625), ("greater", 0.3798828125), ("less", 0.62109375)]
)
def test_exact_p_values_are_those_of_scipy(alternative, expected):
    assert permutation_p(GAPS, alternative=alternative) == pytest.approx(expected, abs=1e-12)


def test_sampled_p_values_come_near_the_exact_ones_and_are_never_zero():
    longer = [*GAPS, 0.0, 0.0, 0.0]
    assert permutation_p(longer) == pytest.approx(permutation_p(GAPS), abs=0.02)
    assert permutation_p([1.0] * 40) == pytest.approx(1e-4)


def test_a_margin_asks_for_not_worse_by_that_much():
    gaps = [-0.02, -0.01, 0.01, -0.015, 0.0, -0.01, 0.005, -0.01]
    assert permutation_p(gaps, alternative="greater") > 0.5
    assert permutation_p(gaps, alternative="greater", margin=0.05) == pytest.approx(1 / 256)


def test_false_alarms_are_as_rare_as_stated():
    draw = random.Random(11)
    alarms = sum(permutation_p([draw.gauss(0, 1) for _ in range(8)]) <= 0.05 for _ in range(600))
    assert wilson(alarms, 600, 0.999).low <= 0.05


def test_groups_are_counted_once_however_many_cases_they_have():
    assert grouped([1.0, 0.0, 0.5, 1.0], ["a", "a", "b", "c"]) == [0.5, 0.5, 1.0]
    with pytest.raises(ValueError, match="2 values and 1 groups"):
        grouped([1.0, 2.0], ["a"])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_adjusted_values_keep_their_order_and_are_no_smaller(p_values):
    adjusted = holm(p_values)
    assert all(a >= p and a <= 1 for a, p in zip(adjusted, p_values, strict=True))
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    assert [adjusted[at] for at in order] == sorted(adjusted)


def test_adjustment_is_that_of_r():
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])


def test_the_bca_interval_is_that_of_scipy_but_for_chance():
    # scipy.stats.bootstrap, 200,000 resamples: (.7444, 1.4622).
    low, high = bca_interval(VALUES, draws=20_000)
    assert (low, high) == (pytest.approx(0.7444, abs=0.02), pytest.approx(1.4622, abs=0.02))
    assert bca_interval([0.5] * 7) == (0.5, 0.5)


def test_more_cases_are_needed_for_smaller_differences_and_wider_scatter():
    # Normal approximation by hand: (1.6449 + 0.8416)^2 = 6.1826; the sample variance of these is 0.25 * 100 / 99.
    gaps = [0.5, -0.5] * 50
    assert cases_needed(gaps, 0.1) == 157
    assert cases_needed(gaps, 0.05) > cases_needed(gaps, 0.1)
    assert cases_needed([0.0] * 20, 0.1) >= 2


def test_the_promised_power_is_reached():
    draw = random.Random(5)
    n = cases_needed([draw.gauss(0.3, 1) for _ in range(400)], 0.3)
    found = sum(
        permutation_p([draw.gauss(0.3, 1) for _ in range(n)], alternative="greater", draws=199) <= 0.05
        for _ in range(200)
    )
    assert wilson(found, 200, 0.999).high >= 0.8
    assert wilson(found, 200, 0.999).low <= 0.9


@pytest.mark.parametrize(
    "call",
    [
        lambda: permutation_p([]),
        lambda: permutation_p([float("nan")]),
        lambda: holm([1.2]),
        lambda: bca_interval([]),
        lambda: cases_needed([0.1], 0),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(ValueError, match=r"gaps|p-values|value|difference"):
        call()
