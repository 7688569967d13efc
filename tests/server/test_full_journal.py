"""The spending journal cannot grow in the middle of answers: their ends say so, and what was served is still paid."""

from __future__ import annotations

import asyncio
import json
import resource

import pytest

from interlock.app import open_app
from interlock.server.lane.service import FastLane
from interlock.testing.upstream import Reply
from interlock.testing.wires import OpenAIWire
from interlock.testing.workspaces import write_workspace

from .test_lane import BOTH, JSON, MODEL, site, streamed

OTHER = f"up/{MODEL}"
LABELS = {f"label-{at}": "x" * 512 for at in range(16)}
REFUSED = Reply([b'{"error": {"message": "no"}}'], status=400, headers=JSON)


async def fill(s, **body):
    """Ask for what the provider refuses until the reservation itself cannot be written down."""
    for _ in range(200):
        answers = await asyncio.gather(*(s.ask(model=OTHER, **body) for _ in range(8)))
        if any(answer.status_code >= 500 for answer in answers):
            return
        assert {answer.status_code for answer in answers} == {400}, answers[0].text
    raise AssertionError("the journal always had room")


async def half_streams(s, count, gate, then):
    """Streams of which all but the last piece has come."""
    pieces = OpenAIWire().answer(["one", " two", " three", " four"])
    cut = next(at for at, piece in enumerate(pieces) if b" four" in piece) + 1 if then == "break off" else len(pieces)
    s.upstream.will(Reply(pieces[:cut], gate=gate, then=then))
    open_streams = []
    for _ in range(count):
        body = {"model": "route/r", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        request = s.http.build_request(
            "POST", "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {s.key}"}
        )
        response = await s.http.send(request, stream=True)
        assert response.status_code == 200, await response.aread()
        lines = response.aiter_lines()
        assert "one" in await anext(lines) + await anext(lines) + await anext(lines)
        open_streams.append((response, lines))
    return open_streams


@BOTH
@pytest.mark.parametrize("then", ["end", "break off"])
async def test_streams_end_with_an_error_and_are_paid_when_the_journal_is_full(tmp_path, on, then):
    async with site(tmp_path, on=on, route={"retries": 0}) as s:
        s.upstream.will(streamed("ok"))
        await s.warm(stream=True)
        (pid,) = s.server.workers()
        (folder,) = s.server.workspace.glob("**/journal/wrk_*")
        # Neither a longer file nor a next one: as on a full disk, but the rest of the machine goes on.
        (folder / "next").mkdir()
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (7_000_000, 7_000_000))
        s.upstream.will(REFUSED)
        await fill(s, metadata=LABELS)
        gate = asyncio.Event()
        waiting = await half_streams(s, 5, gate, then)
        s.upstream.will(REFUSED)
        await fill(s)
        gate.set()
        ends = []
        for response, lines in waiting:
            ends.append("\n".join([line async for line in lines]))
            await response.aclose()
        told = [end for end in ends if "spending journal" in end]
        # One or two may still have found room for their settlement.
        assert len(told) >= 3, ends
        for end in told:
            last = [line for line in end.splitlines() if line.startswith("data:")][-1]
            assert json.loads(last[5:])["error"]["code"] in {"storage_full", "unavailable"}
            assert "[DONE]" not in end
        # The server is well: it answers, refuses what costs, and can be stopped.
        assert (await s.http.get("/healthz")).status_code == 200
        assert (await s.ask(stream=True)).status_code >= 500
        assert "an answer could not be taken" not in s.server.log.read_text()
    (folder / "next").rmdir()
    async with open_app(tmp_path / "w") as app:
        rows = await app.parts.cost.ledger(app.owner(), limit=1000)
    paid = [row.trace_id for row in rows if row.usage.output_tokens > 0]
    for response, _ in waiting:
        assert paid.count(response.headers["x-interlock-trace-id"]) == 1


async def test_a_call_that_cannot_be_ended_does_not_stop_the_clock_of_others(tmp_path, anyio_backend):
    seen = []

    class Call:
        deadline = 0.0

        def __init__(self, name):
            self.name = name

        def on_tick(self, at):
            seen.append(self.name)
            if self.name == "broken":
                raise RuntimeError("nobody foresaw this")

        def abandon(self):
            seen.append(f"{self.name} is let go")
            lane.calls.discard(self)

    async with open_app(write_workspace(tmp_path / "w")) as app:
        lane = FastLane(app, count=lambda *_: None)
        lane.calls |= {Call("broken"), Call("well")}
        while seen.count("well") < 2:
            await asyncio.sleep(0.01)
        lane.close()
    assert seen.count("broken") == 1
    assert "broken is let go" in seen
