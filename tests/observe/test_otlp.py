"""Spans over OTLP to a collector of ours, and what happens when it is not there."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from interlock.core.context import Context, Principal
from interlock.core.errors import NotFound
from interlock.core.ids import PrincipalId, TenantId
from interlock.observe.exporters.otlp import OtlpSink
from interlock.observe.service import Observe
from interlock.observe.settings import ObserveSettings
from interlock.stores.events.base import TraceFilter
from interlock.stores.events.parquet import ParquetEvents


@contextmanager
def collector():
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            got.append((self.path, dict(self.headers), ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def caller(sink):
    return Context(TenantId("acme"), Principal(PrincipalId("svc"), "service"), sink=sink)


async def test_spans_reach_a_collector_with_their_parents_status_and_attributes(tmp_path, monkeypatch):
    monkeypatch.setenv("COLLECTOR_HEADERS", "x-team=signals,authorization=Bearer abc=")
    with collector() as (address, got):
        settings = ObserveSettings(otlp_endpoint=address + "/", otlp_headers_env="COLLECTOR_HEADERS")
        sink = OtlpSink(settings, "1.2.3")
        events = ParquetEvents(tmp_path)
        observe = Observe(events, [sink])
        ctx = caller(observe)

        def fail(inner):
            with inner.span("step", tokens=5, ratio=0.5, fine=True):
                raise NotFound("x")

        with pytest.raises(NotFound), observe.span(ctx, "chat") as (_, inner):
            fail(inner)
        sink.close()
        (row,) = await observe.traces(ctx, TraceFilter())
        assert (row.trace_id, row.status, row.error) == (ctx.trace_id, "error", "not_found")
        await events.close()
    path, headers, request = got[0]
    headers = {name.lower(): value for name, value in headers.items()}
    assert path == "/v1/traces"
    assert (headers["x-team"], headers["authorization"]) == ("signals", "Bearer abc=")
    resource = {a.key: a.value.string_value for a in request.resource_spans[0].resource.attributes}
    assert (resource["service.name"], resource["service.version"]) == ("interlock", "1.2.3")
    spans = {s.name: s for one in request.resource_spans for scope in one.scope_spans for s in scope.spans}
    assert set(spans) == {"chat", "step"}
    assert spans["step"].parent_span_id == spans["chat"].span_id
    assert spans["chat"].parent_span_id == b""
    assert {s.trace_id.hex() for s in spans.values()} == {ctx.trace_id}
    assert (spans["chat"].kind, spans["step"].kind) == (WireSpan.SPAN_KIND_SERVER, WireSpan.SPAN_KIND_INTERNAL)
    assert (spans["step"].status.code, spans["step"].status.message) == (Status.STATUS_CODE_ERROR, "not_found")
    attributes = {a.key: a.value for a in spans["step"].attributes}
    assert attributes["tokens"].int_value == 5
    assert attributes["ratio"].double_value == 0.5
    assert attributes["fine"].bool_value is True
    assert attributes["interlock.tenant"].string_value == "acme"
    assert spans["step"].start_time_unix_nano <= spans["step"].end_time_unix_nano


def test_a_collector_that_is_not_there_holds_up_neither_requests_nor_the_end():
    # Without its own limit, closing would try every batch for ten seconds.
    sink = OtlpSink(ObserveSettings(otlp_endpoint="http://127.0.0.1:9"), "1", drain_s=0.1)
    ctx = caller(sink)
    for _ in range(5000):  # more than the exporter's queue holds
        with ctx.span("x"):
            pass
    sink.close()


async def test_an_unknown_trace_is_not_found_and_tenants_are_apart(tmp_path):
    events = ParquetEvents(tmp_path)
    observe = Observe(events)
    ctx = caller(observe)
    with observe.span(ctx, "chat"):
        pass
    assert len(await observe.trace(ctx, ctx.trace_id[:10])) == 1
    rival = Context(TenantId("rival"), ctx.principal)
    for who, name in ((rival, ctx.trace_id), (ctx, "0" * 32), (ctx, ""), (ctx, "%"), (ctx, "'")):
        with pytest.raises(NotFound):
            await observe.trace(who, name)
    await events.close()
