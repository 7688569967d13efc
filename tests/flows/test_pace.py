"""How long a run still takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.flows.pace import Pace, told


class Clock:
    def __init__(self):
        self.at = 0.0

    def __call__(self):
        return self.at


def test_the_pace_of_the_last_minute_counts():
    clock = Clock()
    pace = Pace(clock)
    assert pace.left_s(0, 1000) is None
    for second in range(1, 61):
        clock.at = second
        pace.left_s(second * 10, 1000)
    assert pace.left_s(600, 1000) == pytest.approx(40, rel=0.05)
    # From here on it is slow: what was fast is forgotten within a minute.
    for second in range(61, 181):
        clock.at = second
        left = pace.left_s(600 + (second - 60), 1000)
    assert left == pytest.approx(1000 - 720, rel=0.1)


def test_nothing_is_said_of_what_cannot_be_known():
    clock = Clock()
    pace = Pace(clock)
    clock.at = 100.0
    assert pace.left_s(0, 10) is None
    assert pace.left_s(11, 10) is None
    assert told(None) == ""


@given(st.floats(0, 1e6))
def test_every_time_is_told_in_words(seconds):
    assert told(seconds).startswith("about ")
    assert told(seconds).endswith(" left")
