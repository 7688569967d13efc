import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.stats.intervals import clopper_pearson, wilson


# Newcombe, Statistics in Medicine 17 (1998), table I, methods 3 (score) and 5 (Clopper-Pearson).
@pytest.mark.parametrize(
    ("successes", "trials", "score", "exact"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_published_intervals_are_met(successes, trials, score, exact):
    assert wilson(successes, trials) == pytest.approx(score, abs=5e-5)
    assert clopper_pearson(successes, trials) == pytest.approx(exact, abs=5e-5)


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
@pytest.mark.parametrize("arguments", [(3, 2), (-1, 2), (0, 0), (1, 2, 0.0), (1, 2, 1.0)])
def test_impossible_counts_are_refused(interval, arguments):
    with pytest.raises(ValueError, match=r"of|between"):
        interval(*arguments)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 90), st.integers(0, 90), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_rate_lies_inside_and_mirrors(hits, misses, confidence):
    trials = hits + misses
    if not trials:
        return
    for interval in (wilson, clopper_pearson):
        low, high = interval(hits, trials, confidence)
        assert 0.0 <= low <= high <= 1.0
        assert low <= hits / trials <= high
        assert interval(misses, trials, confidence) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 90), st.data())
def test_the_exact_interval_is_never_narrower_in_the_middle(trials, data):
    hits = data.draw(st.integers(0, trials))
    exact, score = clopper_pearson(hits, trials), wilson(hits, trials)
    assert exact.high - exact.low >= (score.high - score.low) * 0.95
