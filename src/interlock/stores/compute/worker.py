"""A worker process: ``python -m interlock.stores.compute.worker PARENT``, started by `processes.py`.

On its input come an 8-byte big-endian length and a pickle: first `(opening, memory_bytes)`, then units; its answers go
out in the same frames. The end of the input ends it, and so does the end of its parent.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import struct
import sys
from typing import BinaryIO

from interlock.stores.compute._bench import Bench
from interlock.stores.compute._parent import end_with_parent

__all__ = ["HEADER", "main"]

HEADER = struct.Struct(">Q")


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    (length,) = HEADER.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None


async def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    first = await asyncio.to_thread(_read, requests)
    if first is None:
        return
    opening, memory_bytes = pickle.loads(first)  # noqa: S301 - from the process that started this one
    bench = Bench(opening, memory_bytes)
    try:
        while (data := await asyncio.to_thread(_read, requests)) is not None:
            said = await bench.do(data)
            answers.write(HEADER.pack(len(said)) + said)
            answers.flush()
    finally:
        await bench.close()


def main() -> None:
    """Serve until the input ends."""
    end_with_parent(int(sys.argv[1]))
    # Libraries print: what they say must not stand between two answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    asyncio.run(_serve(sys.stdin.buffer, answers))


if __name__ == "__main__":
    main()
