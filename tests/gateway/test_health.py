"""How targets are judged, and who waits for a turn at a busy provider."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import InvalidInput, LimitExceeded, ProviderError
from interlock.gateway.health import FIRST_TOKEN_S, Health
from interlock.gateway.retry import RetryBudget
from interlock.gateway.turns import Turns

DOWN = ProviderError("x", provider="p", upstream_status=503)


class Watched:
    """A target, its clock, and calls that end as told."""

    def __init__(self, **figures):
        self.at = 0.0
        known = {"failures": 3, "failure_rate": 0.5, "window_s": 30.0, "pause_s": 5.0, "max_pause_s": 20.0, **figures}
        self.health = Health(**known, clock=lambda: self.at)
        self.target = self.health.of("p/m")

    def call(self, error=None, waited=0.1):
        self.target.begin(self.at)
        if error is None:
            self.target.first_token(self.at, waited)
            self.target.succeeded(self.at)
        else:
            self.target.failed(self.at, error)

    @property
    def state(self):
        return self.target.state(self.at)


def test_failures_in_a_row_open_the_breaker_and_a_success_in_between_does_not():
    watched = Watched(failure_rate=1)
    for _ in range(2):
        watched.call(DOWN)
    watched.call()
    for _ in range(2):
        watched.call(DOWN)
    assert watched.state == "closed"
    watched.call(DOWN)
    assert watched.state == "open"
    assert watched.target.is_resting(watched.at)


def test_one_probe_goes_through_and_decides():
    watched = Watched()
    for _ in range(3):
        watched.call(DOWN)
    watched.at = 4.9
    assert watched.target.is_resting(watched.at)
    watched.at = 5.0
    assert (watched.state, watched.target.is_resting(watched.at)) == ("half-open", False)
    watched.target.begin(watched.at)
    assert watched.target.is_resting(watched.at), "a second call waits for the probe"
    watched.target.succeeded(watched.at)
    assert watched.state == "closed"


def test_a_probe_that_fails_doubles_the_rest_up_to_its_bound():
    watched = Watched()
    for _ in range(3):
        watched.call(DOWN)
    rests = []
    for _ in range(4):
        watched.at = watched.target.free_at(watched.at)
        watched.call(DOWN)
        rests.append(watched.target.free_at(watched.at) - watched.at)
    assert rests == [10, 20, 20, 20]


def test_a_caller_that_leaves_a_probe_says_nothing_about_the_target():
    watched = Watched()
    for _ in range(3):
        watched.call(DOWN)
    watched.at = 5.0
    watched.target.begin(watched.at)
    watched.target.left()
    assert (watched.state, watched.target.is_resting(watched.at)) == ("half-open", False)


def test_many_failures_among_many_calls_open_it_too():
    watched = Watched(failures=5, failure_rate=0.5)
    for _ in range(5):
        watched.call(DOWN)
        watched.call()
    assert watched.state == "closed"
    watched.call(DOWN)
    assert watched.state == "open"


def test_old_failures_are_forgotten():
    watched = Watched(failures=10)
    watched.call(DOWN)
    assert watched.target.error_rate(watched.at) == 1
    watched.at = 31
    assert watched.target.error_rate(watched.at) == 0


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (InvalidInput("x"), False),
        (ProviderError("x", provider="p", upstream_status=400), False),
        (ProviderError("x", provider="p", upstream_status=404), False),
        (ProviderError("x", provider="p", upstream_status=401), True),
        (ProviderError("x", provider="p", upstream_status=500), True),
        (ProviderError("x", provider="p"), True),
        (LimitExceeded("x", retry_after_s=3), False),
    ],
)
def test_only_the_targets_own_faults_count_against_it(error, counts):
    watched = Watched()
    for _ in range(3):
        watched.call(error)
    assert (watched.state == "open") is counts
    assert watched.target.failures == (3 if counts else 0)


def test_a_rate_limit_makes_it_wait_and_no_longer_than_the_bound():
    watched = Watched(max_pause_s=20)
    watched.call(LimitExceeded("x", retry_after_s=3))
    assert watched.target.is_cooling(2.9)
    assert not watched.target.is_cooling(3.1)
    watched.call(LimitExceeded("x", retry_after_s=3600))
    assert not watched.target.is_cooling(20.1)


def test_recent_latency_weighs_more_and_an_old_figure_fades():
    watched = Watched()
    watched.call(waited=1.0)
    watched.at = 15
    watched.call(waited=0.1)
    assert 0.1 < watched.target.latency_s < 0.5
    now = watched.target.expected_s(watched.at)
    assert watched.target.expected_s(watched.at + 600) < now / 100


@given(st.lists(st.floats(0, 100), max_size=50))
def test_every_first_token_is_counted_in_one_class(waits):
    watched = Watched()
    for waited in waits:
        watched.call(waited=waited)
    assert sum(watched.target.waits) == len(waits) == watched.target.served
    assert watched.target.waits[-1] == sum(waited > FIRST_TOKEN_S[-1] for waited in waits)
    assert watched.target.waited_s == pytest.approx(sum(waits))


@given(st.lists(st.sampled_from(["ok", "down", "rate", "bad", "left"]), max_size=60))
def test_every_call_ends_in_one_class_and_none_stays_in_flight(endings):
    watched = Watched()
    for ending in endings:
        watched.at += 1
        errors = {"down": DOWN, "rate": LimitExceeded("x"), "bad": InvalidInput("x")}
        if ending == "left":
            watched.target.begin(watched.at)
            watched.target.left()
        else:
            watched.call(errors.get(ending))
    target = watched.target
    assert target.in_flight == 0
    assert (target.served, target.failures, target.rejected, target.refused, target.abandoned) == tuple(
        endings.count(ending) for ending in ("ok", "down", "rate", "bad", "left")
    )


def test_names_that_never_served_do_not_pile_up():
    watched = Watched()
    watched.call()
    for number in range(10_000):
        watched.health.of(f"p/made-up-{number}")
    assert len(watched.health.targets) <= 2000
    assert watched.health.of("p/m") is watched.target


# ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Queue:
    """Callers that hold a turn until told to leave."""

    def __init__(self, **figures):
        self.turns = Turns("p", **{"limit": 1, "queue": 8, "timeout_s": 60, **figures})
        self.entered = []
        self.leave = asyncio.Event()

    async def caller(self, name, priority="normal", remaining_s=60.0):
        async with self.turns.turn(priority, remaining_s):
            self.entered.append(name)
            await self.leave.wait()

    async def start(self, name, priority="normal", remaining_s=60.0):
        task = asyncio.ensure_future(self.caller(name, priority, remaining_s))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task


async def test_turns_go_by_priority_then_by_arrival():
    queue = Queue()
    tasks = [await queue.start("first")]
    for name, priority in (("low", "low"), ("one", "normal"), ("high", "high"), ("two", "normal")):
        tasks.append(await queue.start(name, priority))
    assert (queue.turns.busy, queue.turns.waiting) == (1, 4)
    queue.leave.set()
    await asyncio.gather(*tasks)
    assert queue.entered == ["first", "high", "one", "two", "low"]
    assert (queue.turns.busy, queue.turns.waiting) == (0, 0)


async def test_a_full_queue_turns_away_the_newest_of_the_lowest_priority():
    queue = Queue(queue=2)
    holder = await queue.start("holder")
    waiting = [await queue.start("low", "low"), await queue.start("normal")]
    with pytest.raises(LimitExceeded) as caught:
        await queue.caller("another low", "low")
    assert (caught.value.code, caught.value.retryable, caught.value.retry_after_s) == ("overloaded", True, 30)
    urgent = await queue.start("high", "high")
    with pytest.raises(LimitExceeded):
        await waiting[0]
    queue.leave.set()
    await asyncio.gather(holder, waiting[1], urgent)
    assert (queue.entered, queue.turns.shed) == (["holder", "high", "normal"], 2)


async def test_a_wait_ends_at_the_callers_deadline():
    queue = Queue()
    holder = await queue.start("holder")
    with pytest.raises(LimitExceeded):
        await queue.caller("late", remaining_s=0.01)
    assert queue.turns.waiting == 0
    queue.leave.set()
    await holder


async def test_a_caller_that_leaves_the_queue_loses_nobody_elses_turn():
    queue = Queue()
    holder = await queue.start("holder")
    gone, stays = await queue.start("gone"), await queue.start("stays")
    gone.cancel()
    queue.leave.set()
    await asyncio.gather(holder, stays)
    assert queue.entered == ["holder", "stays"]
    assert queue.turns.busy == 0


async def test_a_turn_given_to_a_caller_that_leaves_in_the_same_moment_goes_on():
    queue = Queue()
    holder = await queue.start("holder")
    gone, stays = await queue.start("gone"), await queue.start("stays")
    queue.leave.set()
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(holder, stays)
    await asyncio.wait([gone])
    assert queue.turns.busy == 0


async def test_without_a_limit_everybody_enters_and_is_counted():
    queue = Queue(limit=0)
    tasks = [await queue.start(number) for number in range(5)]
    assert queue.turns.busy == 5
    queue.leave.set()
    await asyncio.gather(*tasks)
    assert queue.turns.busy == 0


@given(st.lists(st.tuples(st.sampled_from(["low", "normal", "high"]), st.booleans()), max_size=12), st.integers(1, 3))
async def test_never_more_than_the_limit_and_every_turn_comes_back(callers, limit):
    turns, most = Turns("p", limit=limit, queue=64, timeout_s=60), 0

    async def caller(priority):
        nonlocal most
        async with turns.turn(priority, 60):
            most = max(most, turns.busy)
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(caller(priority)) for priority, _ in callers]
    await asyncio.sleep(0)
    for task, (_, leaves) in zip(tasks, callers, strict=True):
        if leaves:
            task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    assert (turns.busy, turns.waiting) == (0, 0)
    assert most <= limit


def test_retries_are_a_share_of_calls():
    at = [0.0]
    budget = RetryBudget(0.2, per_s=0.0, clock=lambda: at[0])
    while budget.take():
        pass
    spent = budget.taken
    for _ in range(100):
        budget.call()
    allowed = 0
    while budget.take():
        allowed += 1
    assert (spent, allowed, budget.taken) == (10, 10, 20)


@pytest.mark.parametrize("status", [401, 402, 403, 429])
def test_a_key_of_one_tenant_that_is_refused_says_nothing_about_the_target(status):
    watched = Watched()
    for _ in range(20):
        watched.target.begin(watched.at)
        error = ProviderError("x", provider="p", upstream_status=status)
        watched.target.failed(watched.at, error, own_key=True)
    watched.target.begin(watched.at)
    watched.target.failed(watched.at, LimitExceeded("x", retry_after_s=60), own_key=True)
    assert watched.state == "closed"
    assert not watched.target.is_cooling(watched.at)
    # That the target is down, every key finds out alike.
    for _ in range(3):
        watched.target.begin(watched.at)
        watched.target.failed(watched.at, DOWN, own_key=True)
    assert watched.state == "open"
