from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.stats.intervals import Interval, wilson
from interlock.stats.sequential import (
    BettingProcess,
    Gap,
    Moments,
    always_valid_p,
    count_bayes_factor,
    gap_between,
    lower_bound,
    two_sided,
    units_needed,
)

LEVEL = 0.05


def moments(values):
    found = Moments()
    for value in values:
        found.add(value)
    return found


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_moments_are_those_of_the_whole_list(values):
    found = moments(values)
    mean = math.fsum(values) / len(values)
    assert found.mean == pytest.approx(mean, abs=1e-6, rel=1e-9)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    assert found.variance == pytest.approx(variance, abs=1e-5, rel=1e-6)


def test_bounds_are_those_of_the_formula_by_hand():
    gap = Gap(0.1, 0.02, 1000)
    told = -2 * math.log(LEVEL)
    rho2 = (told + math.log(told + 1)) / 2000
    half = 0.02 * math.sqrt(2 * (1000 * rho2 + 1) / (1000 * rho2) * math.log(math.sqrt(1000 * rho2 + 1) / LEVEL))
    low, high = two_sided(gap, LEVEL)
    assert (low, high) == (pytest.approx(0.1 - half), pytest.approx(0.1 + half))
    assert low < lower_bound(gap, LEVEL) < 0.1


@given(st.floats(0.001, 10), st.integers(4, 100_000), st.floats(0.001, 0.2))
def test_looking_at_any_time_costs_width_and_more_evidence_gives_it_back(error, n, alpha):
    low, high = two_sided(Gap(0.0, error, n), alpha)
    assert high > 1.6 * error
    assert two_sided(Gap(0.0, error / 2, 4 * n), alpha).high < high
    assert low == pytest.approx(-high)


def _rolled_back(draw, control, treated, units):
    """Units at which either rule proves harm, looked at every 25; None for never."""
    ours, theirs, bets = Moments(), Moments(), BettingProcess()
    found = [None, None]
    for unit in range(1, units + 1):
        a, b = float(draw.random() < control), float(draw.random() < treated)
        ours.add(a)
        theirs.add(b)
        bets.add(a, b)
        if unit % 25 == 0:
            gap = gap_between(ours, theirs)
            if found[0] is None and gap.error and lower_bound(gap, LEVEL) > 0:
                found[0] = unit
            if found[1] is None and bets.evidence >= 1 / LEVEL:
                found[1] = unit
    return found


def test_equal_arms_are_rarely_told_apart_however_often_one_looks():
    draw = random.Random(2)
    runs = [_rolled_back(draw, 0.9, 0.9, 1500) for _ in range(200)]
    for rule in range(2):
        alarms = sum(run[rule] is not None for run in runs)
        assert wilson(alarms, len(runs), 0.999).low <= LEVEL


def test_real_harm_is_found_soon():
    draw = random.Random(3)
    for rule in range(2):
        found = sorted(_rolled_back(draw, 0.9, 0.8, 1000)[rule] or 1001 for _ in range(41))
        assert found[20] <= 300


def test_harm_within_the_margin_is_no_evidence():
    bets = BettingProcess(margin=0.2)
    for _ in range(500):
        bets.add(0.9, 0.75)
    assert bets.evidence < 1
    for _ in range(2000):
        bets.add(0.9, 0.1)
    assert bets.evidence > 20


def test_shares_as_asked_for_raise_no_alarm_and_others_do():
    assert count_bayes_factor((5000, 5000), (0.5, 0.5)) < 1
    assert count_bayes_factor((9_000, 1_000), (0.9, 0.1)) < 1
    assert count_bayes_factor((5500, 4500), (0.5, 0.5)) > 1000
    assert count_bayes_factor((0, 0), (0.5, 0.5)) == pytest.approx(1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Moments().add(math.nan),
        lambda: gap_between(moments([1.0]), moments([1.0, 2.0])),
        lambda: two_sided(Gap(0, 1, 10), 0),
        lambda: lower_bound(Gap(0, 1, 10), 0.05, tightest_at=0),
        lambda: BettingProcess().add(1.5, 0),
        lambda: count_bayes_factor((1,), (1.0,)),
        lambda: count_bayes_factor((1, 2), (0.5, 0.4)),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(ValueError, match=r"value|units|alpha|outcomes|counts|shares"):
        call()


def test_the_always_valid_p_is_the_level_at_which_the_interval_meets_zero() -> None:
    gap = Gap(0.05, 0.012, 2400)
    p = always_valid_p(gap, 0.05)
    assert 0 < p < 0.05
    # `two_sided` made for the level of the p-value's own sequence touches 0 just there.
    rho_of = two_sided(gap, 0.05)
    assert rho_of.low > 0
    assert always_valid_p(gap._replace(mean=0.0), 0.05) == 1.0
    assert always_valid_p(gap._replace(mean=gap.mean - rho_of.low), 0.05) == pytest.approx(0.05, rel=1e-6)
    assert always_valid_p(gap._replace(mean=-gap.mean), 0.05) == p
    assert always_valid_p(Gap(0.0, 0.0, 100), 0.05) == 1.0


def test_units_needed_find_the_effect_as_often_as_promised() -> None:
    spread, effect = 0.4, 0.1
    units = units_needed(spread, effect, alpha=0.05, power=0.8)
    assert units_needed(spread, effect / 2, alpha=0.05) > 3.5 * units
    assert units_needed(spread, effect, alpha=0.05, controls=3.0) < units
    draw = random.Random(5)
    hits = 0
    for _ in range(300):
        control, treated = Moments(), Moments()
        for _ in range(units):
            control.add(draw.gauss(0.5, spread))
            treated.add(draw.gauss(0.5 - effect, spread))
        hits += two_sided(gap_between(treated, control), 0.05, tightest_at=2 * units).high < 0
    assert 0.72 <= hits / 300 <= 0.9
    with pytest.raises(ValueError, match="above 0"):
        units_needed(0.4, 0.0, alpha=0.05)


def test_what_was_not_met_yet_is_not_surely_absent() -> None:
    never, seldom = Moments(), Moments()
    for _ in range(60):
        never.add(0.0)
        seldom.add(0.0)
    assert gap_between(seldom, never).error == 0, "both arms look alike"
    careful = gap_between(seldom, never, within=Interval(0.0, 1.0))
    assert careful.mean == 0
    assert two_sided(careful, 0.05).high > 3 / 60, "by the rule of three it may be of 3 in n"
