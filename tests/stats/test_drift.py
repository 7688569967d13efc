"""Detectors of change: values by hand, and how often they alarm for nothing."""

from __future__ import annotations

import math
import random

import pytest

from interlock.stats.drift import ChangeDetector, energy_test, psi, psi_test


def plane(points: list[float]) -> list[list[float]]:
    return [[abs(a - b) for b in points] for a in points]


def test_energy_distance_by_hand() -> None:
    # Between {0, 1} and {3, 4}: mean distance 3; within each .5 (both orders and the diagonal counted): 6 - .5 - .5.
    found = energy_test(plane([0.0, 1.0, 3.0, 4.0]), 2, draws=9)
    assert found.distance == pytest.approx(5.0)
    assert found.contributions == pytest.approx((2.5 - 1, 3.5 - 1))


def test_energy_sees_another_shape_and_not_the_same_one() -> None:
    draw = random.Random(4)
    same = [draw.gauss(0, 1) for _ in range(120)]
    wide = [*same[:60], *(draw.gauss(0, 3) for _ in range(60))]
    assert energy_test(plane(wide), 60).p <= 0.01
    assert energy_test(plane(same), 60).p > 0.05
    for first in (1, 119, 0):
        with pytest.raises(ValueError, match="two or more"):
            energy_test(plane(same), first)


def test_energy_alarms_at_its_level_when_nothing_has_changed() -> None:
    draw = random.Random(5)
    alarms = sum(energy_test(plane([draw.gauss(0, 1) for _ in range(40)]), 25, draws=99).p <= 0.05 for _ in range(300))
    assert alarms <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05 * 0.95)


def test_psi_by_hand_and_its_rule_of_thumb_is_wrong_for_small_samples() -> None:
    # Half a count is added to each kind: shares 80.5/101 and 20.5/101 against 50.5/101 twice.
    wanted = sum((a - b) * math.log(a / b) for b, a in ((80.5 / 101, 50.5 / 101), (20.5 / 101, 50.5 / 101)))
    assert psi([80, 20], [50, 50]) == pytest.approx(wanted, abs=1e-12)
    assert psi_test([80, 20], [50, 50]).p <= 0.01
    # An index above .2 that chance gives as often as not.
    small = psi_test([4, 3, 3, 2, 4], [2, 4, 1, 4, 1])
    assert small.psi > 0.2
    assert small.p > 0.2
    with pytest.raises(ValueError, match="same kinds"):
        psi([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="need a count"):
        psi_test([0, 0], [1, 2])


def test_the_change_detector_by_hand() -> None:
    # Below .5: a 0 multiplies the wealth of stake s by 1 + s, a 1 by 1 - s; one more gambler starts each time.
    detector = ChangeDetector(0.5, "below")
    assert detector.evidence == 0.0
    stakes = (0.05, 0.1, 0.2, 0.35, 0.55, 0.8)
    first = [1 + s for s in stakes]
    assert detector.add(0.0) == pytest.approx(sum(first) / 6)
    second = [(1 + wealth) * (1 - s) for wealth, s in zip(first, stakes, strict=True)]
    assert detector.add(1.0) == pytest.approx(sum(second) / 6)
    again = ChangeDetector(0.5, "below", logs=detector.logs, n=detector.n)
    assert again.add(0.3) == detector.add(0.3)
    other = ChangeDetector(0.5, "above")
    assert other.add(1.0) == pytest.approx(sum(first) / 6)
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="lie in"):
            detector.add(value)
    with pytest.raises(ValueError, match="bounded"):
        ChangeDetector(1.5, "below")


def test_without_a_change_the_mean_evidence_is_no_larger_than_the_values_seen() -> None:
    """What makes N values to a false alarm: the expectation of the evidence after n values is n at most."""
    for rate, bound in ((0.9, 0.9), (0.5, 0.5), (0.2, 0.2)):
        draw = random.Random(6)
        total = 0.0
        for _ in range(2_000):
            detector = ChangeDetector(bound, "below")
            for _ in range(20):
                last = detector.add(float(draw.random() < rate))
            total += last
        assert total / 2_000 <= 20 * 1.15


def test_a_drop_is_found_after_a_long_good_time() -> None:
    draw = random.Random(7)
    detector = ChangeDetector(0.85, "below")
    for _ in range(2_000):
        assert detector.add(float(draw.random() < 0.92)) < 10_000
    delay = 0
    while detector.evidence < 10_000:
        detector.add(float(draw.random() < 0.6))
        delay += 1
    assert delay < 80
