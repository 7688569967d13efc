"""What atheris runs: heads and chunks of any bytes raise Malformed or read the same in one piece and in two."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from interlock.server.lane.bodies import WIRES
    from interlock.server.lane.http1 import Chunked, Malformed, parse_head


def _read(pieces: list[bytes]) -> object:
    reader, got = Chunked(), b""
    try:
        for piece in pieces:
            if reader.done:
                break
            got += reader.feed(piece)[0]
    except Malformed:
        return None
    return got, reader.done


def look(data: bytes) -> None:
    """One input."""
    half = len(data) // 2
    if _read([data]) != _read([data[:half], data[half:]]):
        raise AssertionError("chunks depend on where they are cut")
    end = data.find(b"\r\n\r\n")
    if end >= 0:
        try:
            head = parse_head(data, end)
        except Malformed:
            return
        if head.framing == "length" and head.length < 0:
            raise AssertionError("a negative length")
    for wire in WIRES.values():
        wire.read(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, look)
    atheris.Fuzz()
