"""Reading an upstream's answer: the same whatever the cuts, and never more than is bounded."""

from __future__ import annotations

import itertools
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.server.lane.http1 import Chunked, Malformed, parse_head


def cut(data, marks):
    places = sorted({0, len(data), *(mark % (len(data) + 1) for mark in marks)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def framed(pieces, extension=b"", trailer=b""):
    return b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in pieces if p) + b"0\r\n" + trailer + b"\r\n"


@given(
    st.lists(st.binary(max_size=300), max_size=8),
    st.lists(st.integers(0, 4000), max_size=12),
    st.sampled_from([b"", b";a=b", b" ; x"]),
    st.sampled_from([b"", b"x: y\r\n"]),
    st.binary(max_size=5),
)
def test_chunks_give_what_was_framed_however_they_are_cut(pieces, marks, extension, trailer, after):
    data = framed(pieces, extension, trailer)
    reader, got, used = Chunked(), b"", 0
    for piece in cut(data + after, marks):
        if reader.done:
            break
        payload, taken = reader.feed(piece)
        got, used = got + payload, used + taken
    assert reader.done
    assert got == b"".join(pieces)
    assert used == len(data)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_anything_else_is_malformed_or_unfinished_and_the_same_for_all_cuts(data, marks):
    def read(pieces):
        reader, got = Chunked(), b""
        try:
            for piece in pieces:
                if reader.done:
                    break
                got += reader.feed(piece)[0]
        except Malformed:
            return "malformed"
        return (got, reader.done)

    assert read([data]) == read(cut(data, marks))


def head(*lines, start=b"HTTP/1.1 200 OK"):
    data = b"\r\n".join([start, *lines]) + b"\r\n\r\n"
    return parse_head(data, data.index(b"\r\n\r\n"))


def test_a_head_tells_how_its_body_ends():
    read = head(b"Content-Type: Application/JSON; charset=utf-8", b"Content-Length: 12", b"X-A: b")
    assert (read.status, read.framing, read.length, read.keep_alive) == (200, "length", 12, True)
    assert read.kind == b"application/json"
    assert read.mapping()["x-a"] == "b"
    assert head(b"transfer-encoding: chunked").framing == "chunked"
    assert head().framing == "close"
    assert not head(b"connection: close", b"content-length: 0").keep_alive
    assert not head(b"content-length: 0", start=b"HTTP/1.0 200 OK").keep_alive
    assert head(start=b"HTTP/1.1 204 No Content").length == 0


@pytest.mark.parametrize(
    "lines",
    [
        [b"content-length: 1", b"content-length: 1"],
        [b"content-length: 1", b"transfer-encoding: chunked"],
        [b"transfer-encoding: gzip, chunked"],
        [b"content-length: -1"],
        [b"content-length: 1x"],
        [b"content-length: 99999999999999999"],
        [b"content-encoding: br"],
        [b"x y: z"],
        [b" folded: line"],
        [b"no colon"],
        [b"x: a\x00b"],
        [b"x: a\nb: c"],
    ],
)
def test_a_head_that_two_readers_could_read_differently_is_refused(lines):
    with pytest.raises(Malformed):
        head(*lines)


@pytest.mark.parametrize(
    "start", [b"HTTP/2 200", b"HTTP/1.1 2000", b"HTTP/1.1  200", b"ICY 200", b"", b"HTTP/1.1 099 x"]
)
def test_a_start_that_is_none_is_refused(start):
    with pytest.raises(Malformed):
        head(start=start)


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the fuzzer, atheris, has wheels for Linux x86-64"
)
def test_the_parsers_survive_the_fuzzer(tmp_path: Path):
    """Bounded: a hundred thousand inputs, guided by coverage, or as many as a minute of a busy machine allows."""
    target = Path(__file__).parent / "fuzz_http1.py"
    found = tmp_path / "found"
    found.mkdir()
    # Its memory is counted from the peak of the process that starts it, which runs all the other tests.
    bounds = ["-rss_limit_mb=0", "-atheris_runs=100000", "-max_total_time=60", "-max_len=4096", "-seed=1"]
    bounds.append(f"-artifact_prefix={found}/")
    done = subprocess.run(
        [sys.executable, str(target), *bounds], capture_output=True, text=True, timeout=110, check=False
    )
    inputs = [path.read_bytes() for path in found.iterdir()]
    assert (done.returncode, inputs) == (0, []), done.stderr[-3000:]
