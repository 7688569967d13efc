from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.stats.bootstrap import mean_interval, paired_interval

values = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@settings(max_examples=30, deadline=None)
@given(values)
def test_the_mean_lies_inside_and_the_same_values_give_the_same(found):
    low, high = mean_interval(found, draws=200)
    assert min(found) - 1e-9 <= low <= high <= max(found) + 1e-9
    assert mean_interval(found, draws=200) == (low, high)


def test_it_covers_about_as_often_as_it_says():
    import random

    chance = random.Random(3)
    met = 0
    for _ in range(200):
        low, high = mean_interval([chance.random() for _ in range(40)], draws=300)
        met += low <= 0.5 <= high
    assert 175 <= met <= 199


def test_pairs_are_narrower_than_their_parts_and_signs_are_kept():
    old = [n / 50 for n in range(50)]
    new = [value + 0.01 for value in old]
    gain, (low, high) = paired_interval(new, old)
    assert gain == pytest.approx(0.01)
    assert 0 < low <= high < 0.011
    loss, _ = paired_interval(old, new)
    assert loss == pytest.approx(-0.01)


def test_what_cannot_be_measured_is_said():
    for wrong in (lambda: mean_interval([]), lambda: mean_interval([1.0], 1.0), lambda: paired_interval([1.0], [])):
        with pytest.raises(ValueError, match=r"."):
            wrong()
