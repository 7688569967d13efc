# ruff: noqa: D102 - a test name is a sentence
"""What every `Events` must do."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from interlock.core.errors import InvalidInput
from interlock.core.ids import SpanId, TenantId, TraceId, new_span_id, new_trace_id
from interlock.core.trace import AttributeValue, Span, SpanStatus
from interlock.stores.events.base import Events, TraceFilter

__all__ = ["EventsSuite", "make_span"]

A, B = TenantId("acme"), TenantId("../acme")
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
_SECOND = 1_000_000_000


# AttributeValue by name: the attributes of a span.
def make_span(
    tenant: TenantId,
    offset_s: float = 0.0,
    *,
    trace: TraceId | None = None,
    parent: SpanId | None = None,
    duration_ms: float = 10.0,
    status: SpanStatus = "ok",
    **attributes: AttributeValue,
) -> Span:
    """A span `offset_s` seconds after noon of a fixed day; ``app=…`` and the like fill the known attributes."""
    start = int(NOON.timestamp()) * _SECOND + int(offset_s * _SECOND)
    known = {
        "app": "interlock.app",
        "release": "interlock.release",
        "model": "gen_ai.response.model",
        "cost": "interlock.cost.nano_usd",
        "tokens_in": "gen_ai.usage.input_tokens",
        "tokens_out": "gen_ai.usage.output_tokens",
        "prompt": "interlock.prompt.digest",
        "outcome": "interlock.answer.outcome",
    }
    values = {known.get(name, name): value for name, value in attributes.items()}
    end = start + int(duration_ms * 1_000_000)
    error = "" if status == "ok" else "provider_error"
    return Span(trace or new_trace_id(), new_span_id(), parent, tenant, "chat", start, end, status, error, values)


class EventsSuite:
    """Needs a fixture ``events``: an empty store that keeps spans of any age."""

    async def test_a_flushed_trace_is_read_back_whole(self, events: Events) -> None:
        root = make_span(A, app="support", release="sha256:1", model="m-1", cost=1234, tokens_in=5, tokens_out=6)
        child = make_span(A, 0.001, trace=root.trace_id, parent=root.span_id, ok=True, x=1.5, n=7, s="it's \x00 ünï")
        for span in (child, root):
            events.emit(span)
        await events.flush()
        assert await events.trace(A, root.trace_id) == [root, child]
        (row,) = await events.traces(A, TraceFilter())
        assert row[:13] == (
            root.trace_id, "chat", root.start_ns, 10.0, "ok", "", "support", "sha256:1", "m-1", 1234, 5, 6, 2,
        )  # fmt: skip

    async def test_an_unpriced_trace_costs_none_and_not_zero(self, events: Events) -> None:
        events.emit(make_span(A))
        await events.flush()
        assert (await events.traces(A, TraceFilter()))[0].cost_nano is None

    async def test_a_unique_prefix_finds_a_trace_and_an_ambiguous_or_odd_one_nothing(self, events: Events) -> None:
        one, two = TraceId("abcdef12" + "0" * 24), TraceId("abcdef12" + "1" * 24)
        for trace in (one, two):
            events.emit(make_span(A, trace=trace))
        await events.flush()
        assert [s.trace_id for s in await events.trace(A, "abcdef120")] == [one]
        for odd in ("abcdef12", "abc", "", "%", "abcdef12%", "' OR true --", "zzzzzzzzz"):
            assert await events.trace(A, odd) == []

    async def test_a_tenant_never_sees_anothers_spans(self, events: Events) -> None:
        tenants = [TenantId(t) for t in ("A", "a", "../A", "a/b", "", "*", "a'b", "{x,y}")]
        spans = {tenant: make_span(tenant, app="x") for tenant in tenants}
        for span in spans.values():
            events.emit(span)
        await events.flush()
        for tenant in tenants:
            assert [r.trace_id for r in await events.traces(tenant, TraceFilter())] == [spans[tenant].trace_id]
            for other in tenants:
                found = await events.trace(tenant, spans[other].trace_id)
                assert bool(found) is (other == tenant)
            points = await events.series(tenant, since=NOON, until=NOON + timedelta(hours=1), buckets=1)
            assert points[0].requests == 1

    async def test_filters_choose_by_the_root_span(self, events: Events) -> None:
        kept = make_span(A, 10, app="x", release="r1", duration_ms=500, status="error")
        others = [
            make_span(A, 10, app="y", release="r1", duration_ms=500, status="error"),
            make_span(A, 10, app="x", release="r2", duration_ms=500, status="error"),
            make_span(A, 10, app="x", release="r1", duration_ms=5, status="error"),
            make_span(A, 10, app="x", release="r1", duration_ms=500, status="cancelled"),
            make_span(A, 1, app="x", release="r1", duration_ms=500, status="error"),
            make_span(A, 30, app="x", release="r1", duration_ms=500, status="error"),
        ]
        for span in (kept, *others):
            events.emit(span)
        await events.flush()
        where = TraceFilter(
            since=NOON + timedelta(seconds=5),
            until=NOON + timedelta(seconds=20),
            app="x",
            release="r1",
            status="error",
            min_duration_ms=100,
        )
        assert [row.trace_id for row in await events.traces(A, where)] == [kept.trace_id]

    async def test_pages_follow_the_cursor_newest_first_across_days(self, events: Events) -> None:
        spans = [make_span(A, hour * 3600) for hour in range(0, 60, 3)] + [make_span(A, 0) for _ in range(3)]
        for span in spans:
            events.emit(span)
        await events.flush()
        seen: list[str] = []
        before: str | None = None
        while page := await events.traces(A, TraceFilter(before=before, limit=4)):
            seen += [row.trace_id for row in page]
            before = page[-1].cursor
        assert seen == [s.trace_id for s in sorted(spans, key=lambda s: (s.start_ns, s.trace_id), reverse=True)]
        with pytest.raises(InvalidInput):
            await events.traces(A, TraceFilter(before="nonsense"))

    async def test_series_has_every_bucket_and_sums_roots_only(self, events: Events) -> None:
        root = make_span(A, 0, cost=5, tokens_in=1, tokens_out=2, duration_ms=10)
        for span in (
            root,
            make_span(A, 1, trace=root.trace_id, parent=root.span_id, cost=999, tokens_in=999),
            make_span(A, 5, cost=7, tokens_in=3, duration_ms=30, status="error"),
            make_span(A, 25, duration_ms=8, app="x"),
            make_span(A, 30),  # at `until`: outside
        ):
            events.emit(span)
        await events.flush()
        until = NOON + timedelta(seconds=30)
        points = await events.series(A, since=NOON, until=until, buckets=3)
        start = int(NOON.timestamp()) * _SECOND
        assert [p.start_ns - start for p in points] == [0, 10 * _SECOND, 20 * _SECOND]
        assert points[0][1:8] == pytest.approx((2, 1, 20.0, 29.0, 12, 4, 2))
        assert points[1][1:] == (0, 0, 0.0, 0.0, 0, 0, 0, 0, 0)
        assert points[2].requests == 1
        only_x = await events.series(A, since=NOON, until=until, buckets=2, app="x")
        assert [p.requests for p in only_x] == [0, 1]
        with pytest.raises(InvalidInput):
            await events.series(A, since=NOON, until=NOON, buckets=3)

    async def test_spans_emitted_from_many_threads_all_arrive(self, events: Events) -> None:
        def work() -> None:
            for _ in range(100):
                events.emit(make_span(A))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        await events.flush()
        assert len(await events.traces(A, TraceFilter(limit=10_000))) == 800
        assert events.dropped == 0

    async def test_a_span_that_cannot_be_stored_is_counted_and_harms_no_other(self, events: Events) -> None:
        bad = [make_span(A, broken="\ud800"), make_span(A, huge=2**80)]
        for span in (*bad, make_span(A)):
            events.emit(span)
        await events.flush()
        readable = len(await events.traces(A, TraceFilter()))
        assert readable >= 1
        assert readable + events.dropped == 3

    async def test_compaction_loses_and_doubles_nothing(self, events: Events) -> None:
        spans = [make_span(A, i) for i in range(40)]
        for span in spans:
            events.emit(span)
            await events.flush()
        for _ in range(3):
            await events.compact()
            assert len(await events.traces(A, TraceFilter(limit=1000))) == 40
            points = await events.series(A, since=NOON, until=NOON + timedelta(hours=1), buckets=1)
            assert points[0].requests == 40

    async def test_requests_are_counted_by_the_version_of_their_prompt(self, events: Events) -> None:
        root = make_span(A, 0, app="x", cost=10, duration_ms=1000, prompt="one", outcome="declined")
        for span in (
            root,
            make_span(A, 1, trace=root.trace_id, parent=root.span_id, cost=999, prompt="one"),
            make_span(A, 2, app="x", cost=30, duration_ms=3000, prompt="one", outcome="generated"),
            make_span(A, 3, app="x", status="error", prompt="one"),
            make_span(A, 4, app="y", cost=1000, prompt="one"),
            make_span(A, 5, app="x", prompt="two"),
            make_span(A, 6, app="x", prompt="other"),
            make_span(B, 7, app="x", cost=7, prompt="one"),
        ):
            events.emit(span)
        await events.flush()
        found = {row.digest: row for row in await events.prompts(A, ["one", "two"], since=NOON, apps=["x"])}
        assert set(found) == {"one", "two"}
        one = found["one"]
        assert (one.requests, one.judged, one.failed, one.answers, one.declined) == (3, 3, 1, 2, 1)
        assert (one.priced, one.cost_nano, one.timed, one.seconds) == (2, 20.0, 2, 2.0)
        assert one.cost_spread == pytest.approx(14.142, abs=1e-3)
        assert (one.first_ns, one.last_ns) == (root.start_ns, root.start_ns + 3 * _SECOND)
        assert (found["two"].priced, found["two"].cost_nano, found["two"].cost_spread) == (0, None, None)
        later = await events.prompts(A, ["one"], since=NOON + timedelta(seconds=1))
        assert [row.requests for row in later] == [3]
        assert await events.prompts(A, [], since=NOON) == []
