"""Clients that leave, are too slow, or offer another protocol: a quiet line in the access log, and no lost body."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import time
from urllib.parse import urlsplit

import pytest

from interlock.app import open_app
from interlock.server.lane import protocol
from interlock.server.process import serve
from interlock.testing.servers import run_server
from interlock.testing.upstream import Reply
from interlock.testing.wires import OpenAIWire
from interlock.testing.workspaces import write_workspace

from .test_lane import site

SCRIPT = [
    {"match": "LONG", "reply": "A word. " * 2000, "chunk_chars": 8, "chunk_delay_s": 0.005},
    {"reply": "You said: {question}"},
]
SETTINGS = {
    "gateway": {"providers": {"toy": {"kind": "scripted", "script": SCRIPT}}},
    "server": {"access_log": "access.jsonl"},
}


def request(words, *headers, stream=False):
    body = json.dumps({"model": "toy/m", "messages": [{"role": "user", "content": words}], "stream": stream}).encode()
    head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "host: localhost", "content-type: application/json"])
    return f"{head}\r\n{''.join(h + chr(13) + chr(10) for h in headers)}".encode(), body


def access(workspace, count):
    for _ in range(400):
        path = workspace / "access.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if len(lines) >= count:
            return lines
        time.sleep(0.05)
    raise AssertionError("the access log has too few lines")


@pytest.fixture
def server(tmp_path):
    with run_server(write_workspace(tmp_path / "w", settings=SETTINGS)) as running:
        yield running


def connect(server):
    where = urlsplit(server.url)
    return socket.create_connection((where.hostname, where.port), timeout=30)


def test_a_client_that_leaves_in_mid_answer_is_a_quiet_line(server):
    for stream in (True, False):
        for _ in range(8):
            with connect(server) as client:
                head, body = request("LONG", stream=stream)
                client.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
                if stream:
                    assert b" 200 " in client.recv(65536)
                else:
                    time.sleep(0.05)
                # A reset, not a farewell.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    lines = access(server.workspace, 16)
    assert [line["status"] for line in lines].count(200) == 8
    assert [line["status"] for line in lines].count(499) == 8
    log = server.log.read_text()
    assert "Traceback" not in log, log[-3000:]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_while_a_provider_answers_is_no_traceback(tmp_path, stream):
    pieces = OpenAIWire().answer(["word "] * 50)
    async with site(tmp_path, on=False) as s:
        for then in ("repeat", "fall silent"):
            for _ in range(6):
                s.upstream.will(Reply(pieces[:20], then=then))
                where = urlsplit(s.server.url)
                reader, writer = await asyncio.open_connection(where.hostname, where.port)
                head, body = request("hi", stream=stream)
                body = body.replace(b"toy/m", b"route/r")
                writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
                if stream:
                    assert b" 200 " in await reader.read(100)
                else:
                    await asyncio.sleep(0.1)
                writer.transport.abort()
                await s.upstream.until_idle()
        log = s.server.log.read_text()
    assert "Traceback" not in log, log[-3000:]


def test_a_client_that_leaves_in_the_middle_of_its_body_is_a_quiet_line(server):
    with connect(server) as client:
        head, body = request("hi")
        client.sendall(head + b"content-length: %d\r\n\r\n" % (len(body) + 5) + body)
        time.sleep(0.1)
    (line,) = access(server.workspace, 1)
    assert line["status"] == 499
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("cuts", [1, 7])
def test_an_offer_of_http_2_is_declined_and_the_body_is_kept(server, framing, cuts):
    head, body = request("one", "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQA")
    if framing == "length":
        first = head + b"content-length: %d\r\n\r\n" % len(body) + body
    else:
        chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])
        first = head + b"transfer-encoding: chunked\r\n\r\n" + chunks
    head, body = request("two", "connection: close")
    second = head + b"content-length: %d\r\n\r\n" % len(body) + body
    bare = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n"
    data = first + bare + second
    with connect(server) as client:
        size = -(-len(data) // cuts)
        for at in range(0, len(data), size):
            client.sendall(data[at : at + size])
            time.sleep(0.01)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.index(b"You said: one") < answer.index(b'"status":"ok"') < answer.index(b"You said: two")


@pytest.mark.parametrize("lane", [True, False])
async def test_an_upload_that_takes_too_long_is_told_and_logged_as_such(tmp_path, monkeypatch, lane):
    # A minute, made short.
    monkeypatch.setattr(protocol, "_BODY_S", 0.2)
    workspace = write_workspace(tmp_path / "w", settings=SETTINGS)
    async with open_app(workspace) as app:
        ready = asyncio.get_running_loop().create_future()
        serving = asyncio.ensure_future(serve(app, host="127.0.0.1", port=0, on_ready=ready.set_result, fast_lane=lane))
        where = urlsplit(await ready)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        head, body = request("hi", *([f"authorization: Bearer il_{'x' * 8}_{'y' * 43}"] if lane else []))
        writer.write(head + b"content-length: %d\r\n\r\n" % (len(body) + 5) + body)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        writer.close()
        await writer.wait_closed()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    (line,) = access(workspace, 1)
    assert line["status"] == 408
