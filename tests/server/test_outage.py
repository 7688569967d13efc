"""A provider fails 30 % of its calls in every way, and a healthy one stands behind it."""

from __future__ import annotations

import pytest
from benchmarks.outage import FAULTS, drill

REQUESTS = 240


@pytest.mark.timeout(300)
async def test_callers_who_take_answers_whole_notice_nothing():
    report = await drill(REQUESTS, share=0.3, breaker=False)
    assert report.faults >= 40, "enough went wrong for the drill to mean something"
    assert report.broken_off == 0
    assert report.success >= 0.995, report
    assert report.charged == report.good, "each request is paid once, on the target that served it"


@pytest.mark.timeout(300)
async def test_streams_fail_only_when_they_had_begun():
    report = await drill(REQUESTS, share=0.3, stream=True, breaker=False)
    assert report.success >= 0.995, report
    # One kind of fault in seven breaks off after the first words.
    assert report.broken_off <= report.faults / len(FAULTS) * 3
    assert report.charged == report.good + report.broken_off, "what the caller got a part of is paid as well"
