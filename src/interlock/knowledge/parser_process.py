"""The parser process: ``python -m interlock.knowledge.parser_process MEMORY_BYTES``.

Reads requests on stdin and answers on stdout, each a 4-byte big-endian length and MessagePack. It has no secrets in its
environment and its address space is bounded; the parent kills it when it takes too long.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from typing import BinaryIO

import msgspec

from interlock.core.errors import InterlockError, InvalidInput, TooLarge
from interlock.knowledge.extras import needs_extra
from interlock.knowledge.loaders import loaders
from interlock.knowledge.loaders._budget import grant_through
from interlock.knowledge.types import LoadedDocument

__all__ = ["HEADER", "ParseFailure", "ParseReply", "ParseRequest", "main"]

HEADER = struct.Struct(">I")


class ParseRequest(msgspec.Struct, array_like=True):
    """One file to read."""

    loader: str
    name: str
    data: bytes


class ParseFailure(msgspec.Struct, array_like=True):
    """An error as it crosses the pipe."""

    kind: str
    message: str
    code: str
    hint: str | None


class ParseReply(msgspec.Struct, array_like=True):
    """Either a document or a failure; or neither: then it asks for time, and the answer follows."""

    document: LoadedDocument | None
    failure: ParseFailure | None
    more_time_s: float = 0.0


def _parse(request: ParseRequest) -> ParseReply:
    try:
        with needs_extra(f"the loader {request.loader!r}"):
            return ParseReply(loaders.get(request.loader).load(request.data, request.name), None)
    except InterlockError as error:
        return ParseReply(None, ParseFailure(type(error).__name__, error.message, error.code, error.hint))
    except MemoryError:
        too_large = TooLarge(f"the file {request.name!r} needs more memory than parsing may use", code="parse_memory")
        return ParseReply(None, ParseFailure("TooLarge", too_large.message, too_large.code, None))
    except Exception:  # noqa: BLE001 - see below
        # The border to plug-ins: a loader's own bug is one failed file, and its text may quote the document.
        broken = InvalidInput(f"the file {request.name!r} cannot be read by the loader {request.loader!r}")
        return ParseReply(None, ParseFailure("InvalidInput", broken.message, "damaged_document", None))


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    (length,) = HEADER.unpack(head)
    return stream.read(length)


def main() -> None:
    """Serve until stdin closes."""
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Native libraries print to file descriptor 1: give them another one.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer

    def send(reply: ParseReply) -> None:
        frame = msgspec.msgpack.encode(reply)
        answers.write(HEADER.pack(len(frame)) + frame)
        answers.flush()

    grant_through(lambda seconds: send(ParseReply(None, None, seconds)))
    while (frame := _read(requests)) is not None:
        send(_parse(msgspec.msgpack.decode(frame, type=ParseRequest)))


if __name__ == "__main__":
    main()
