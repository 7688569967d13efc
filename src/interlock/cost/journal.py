"""What this worker has leased, reserved and settled, on disk before it counts: the memory of a worker that was killed.

One append-only file a worker, mapped into memory: a record that was copied there survives the death of the process
(for the loss of power, see `fsync`), and costs no call of the system. Its room is allocated beforehand, so that a full
disk is met when a file is begun. Each record is ``length u32 | crc32 u32 | MessagePack``; a length of 0 ends the file.
When a file is full, the next one begins with what is still open; the old one goes once its settlements are in the
ledger. A folder whose lock
nobody holds belongs to a worker that died: :func:`dead_workers` finds it and `cost.recovery` settles it.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from interlock.core.errors import StorageFull, Unavailable
from interlock.core.ids import new_id

__all__ = [
    "Agreed",
    "Dropped",
    "Fresh",
    "Held",
    "Journal",
    "Leased",
    "Record",
    "Reserved",
    "Settled",
    "Taken",
    "dead_workers",
    "live_workers",
    "read_records",
]

_HEAD = struct.Struct("<II")
_HEAD_BYTES = _HEAD.size
_write_head = _HEAD.pack_into
_FILE_BYTES = 4 * 1024 * 1024
_FREE = "free space in the data folder; calls are refused so that none goes unpaid"


class Held(msgspec.Struct, frozen=True, array_like=True):
    """Units reserved from one counter."""

    tenant: str
    counter: str
    measure: str
    slot: int
    amount: int


class Leased(msgspec.Struct, frozen=True, array_like=True, tag="L"):
    """Units leased from the shared store (negative: given back)."""

    tenant: str
    counter: str
    slot: int
    units: int


class Reserved(msgspec.Struct, frozen=True, array_like=True, tag="R"):
    """A call that is about to be sent. What the ledger would say if nothing more were ever heard of it."""

    id: str
    at_ns: int
    tenant: str
    principal: str
    end_user: str
    app: str
    release: str | None
    trace_id: str
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    held: tuple[Held, ...]
    tags: dict[str, str]


class Agreed(msgspec.Struct, frozen=True, array_like=True, tag="A"):
    """What the `Taken` records of one number have in common."""

    number: int
    tenant: str
    principal: str
    app: str
    provider: str
    model: str
    counters: tuple[tuple[str, str], ...]
    """Name and measure of each, in the order of `Taken.held`."""


class Taken(msgspec.Struct, frozen=True, array_like=True, tag="T", gc=False):
    """A call that is about to be sent, under terms earlier in the same file. Readers get it as `Reserved`."""

    id: str
    terms: int
    at_ns: int
    trace_id: str
    input_tokens: int
    output_tokens: int
    held: list[int]
    """Slot and units of each counter in turn."""


class Settled(msgspec.Struct, frozen=True, array_like=True, tag="S", gc=False):
    """The call was served."""

    id: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    estimated: bool
    cost_nano: int | None
    price: str


class Dropped(msgspec.Struct, frozen=True, array_like=True, tag="D"):
    """The call was not served; nothing is owed."""

    id: str


class Fresh(msgspec.Struct, frozen=True, array_like=True, tag="F"):
    """First record of a file that goes on from another: what follows replaces all leases and open calls before it."""


Record = Fresh | Leased | Reserved | Settled | Dropped
"""What readers see."""
_Written = Record | Agreed | Taken
_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[_Written] = msgspec.msgpack.Decoder(_Written)


class Journal:
    """The journal of this worker.

    Args:
        folder: shared by the workers of this machine; this one makes a folder of its own in it.
        fsync: force every record to the disk, so that it also survives the loss of power (milliseconds a call).
    """

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        self.worker = new_id("wrk")
        self._folder = folder / self.worker
        self._folder.mkdir(mode=0o700, parents=True)
        self._lock = _lock(self._folder)
        assert self._lock is not None, "a fresh folder has no other holder"
        self._fsync = fsync
        self.number = 0
        """Of the present file."""
        self._size = 0
        self.is_closed = False
        self._memory = self._begin(b"")

    @property
    def folder(self) -> Path:
        """Folder of this worker alone."""
        return self._folder

    @property
    def is_long(self) -> bool:
        """True when it is time to rotate."""
        return self._size > _FILE_BYTES // 2

    def append(self, record: _Written) -> None:
        """Write one record. Raises: StorageFull, Unavailable: it is not written, so the call must not be made."""
        if self.is_closed:
            # The number of a closed file is soon another file's.
            raise Unavailable("the spending journal is closed: this worker is stopping", code="stopping")
        body = _encode(record)
        begin = self._size
        end = begin + _HEAD_BYTES + len(body)
        if end + _HEAD_BYTES > len(self._memory):
            self._extend(end + _HEAD_BYTES)
        # The body first: a reader that finds the length finds what belongs to it.
        self._memory[begin + _HEAD_BYTES : end] = body
        _write_head(self._memory, begin, len(body), zlib.crc32(body))
        if self._fsync:
            self._memory.flush(begin - begin % mmap.PAGESIZE, end - begin + begin % mmap.PAGESIZE)
        self._size = end

    def _extend(self, least: int) -> None:
        """More room in the same file: it is only rotated between calls. Raises: StorageFull, Unavailable."""
        size = -(-least // _FILE_BYTES) * _FILE_BYTES
        try:
            with self._path().open("r+b") as file:
                _allocate(file.fileno(), size)
                grown = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise Unavailable(f"the spending journal cannot grow: {error.strerror}", hint=_FREE) from error
        self._memory.close()
        self._memory = grown

    def rotate(self, open_records: Sequence[Record]) -> Path:
        """Begin the next file with `open_records`; gives the old one, to be removed once its ledger rows are stored."""
        frames = b"".join(_frame(record) for record in (Fresh(), *open_records))
        old, previous = self._path(), self._memory
        self.number += 1
        try:
            self._memory = self._begin(frames)
        except BaseException:
            self.number -= 1
            raise
        self._size = len(frames)
        previous.close()
        return old

    def close(self, *, remove: bool) -> None:
        """Let go of the lock. `remove` when everything in it is settled and stored. Nothing is written afterwards."""
        if self.is_closed:
            return
        self.is_closed = True
        self._memory.close()
        if remove:
            _remove(self._folder)
        assert self._lock is not None, "held since the beginning"
        os.close(self._lock)

    def _path(self) -> Path:
        return self._folder / f"{self.number:06d}.journal"

    def _begin(self, content: bytes) -> mmap.mmap:
        """A file that appears whole or not at all. Raises: StorageFull, Unavailable."""
        draft = self._folder / "next"
        handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _allocate(handle, -(-(len(content) + _HEAD.size) // _FILE_BYTES) * _FILE_BYTES)
            memory = mmap.mmap(handle, 0)
        except BaseException:
            draft.unlink()
            raise
        finally:
            os.close(handle)
        memory[: len(content)] = content
        if self._fsync:
            memory.flush()
        draft.rename(self._path())
        return memory


class DeadWorker(NamedTuple):
    """The folder of a worker that is gone, locked for us."""

    folder: Path
    lock: int

    def forget(self) -> None:
        """Remove it: everything in it was dealt with."""
        _remove(self.folder)
        os.close(self.lock)


def _allocate(handle: int, size: int) -> None:
    try:
        # Blocks, not a hole: writing into a hole of a full disk would end the process.
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        kind = StorageFull if error.errno in {errno.ENOSPC, errno.EDQUOT} else Unavailable
        raise kind(f"the spending journal cannot be written: {error.strerror}", hint=_FREE) from error


def _frame(record: Record) -> bytes:
    body = _encode(record)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def dead_workers(folder: Path) -> Iterator[DeadWorker]:
    """Folders whose worker no longer runs. Each is locked while it is ours, so two workers never recover the same."""
    for path in sorted(folder.glob("wrk_*")) if folder.is_dir() else ():
        lock = _lock(path)
        if lock is not None:
            yield DeadWorker(path, lock)


def live_workers(folder: Path) -> int:
    """How many workers of this machine keep a journal in `folder` now, this one included."""
    count = 0
    for path in sorted(folder.glob("wrk_*")) if folder.is_dir() else ():
        lock = _lock(path)
        if lock is None:
            count += 1
        else:
            os.close(lock)
    return count


def read_records(folder: Path) -> Iterator[Record]:
    """Records of a worker's files, oldest first; a half-written one ends its file."""
    for path in sorted(folder.glob("*.journal")):
        data = path.read_bytes()
        at = 0
        agreed: dict[int, Agreed] = {}
        while at + _HEAD.size <= len(data):
            length, checksum = _HEAD.unpack_from(data, at)
            if length == 0:
                break
            body = data[at + _HEAD.size : at + _HEAD.size + length]
            if len(body) < length or zlib.crc32(body) != checksum:
                break
            record = _decoder.decode(body)
            if isinstance(record, Agreed):
                agreed[record.number] = record
            elif isinstance(record, Taken):
                yield _in_full(record, agreed[record.terms])
            else:
                yield record
            at += _HEAD.size + length


def _in_full(taken: Taken, agreed: Agreed) -> Reserved:
    held = zip(agreed.counters, taken.held[::2], taken.held[1::2], strict=True)
    return Reserved(
        id=taken.id,
        at_ns=taken.at_ns,
        tenant=agreed.tenant,
        principal=agreed.principal,
        end_user="",
        app=agreed.app,
        release=None,
        trace_id=taken.trace_id,
        provider=agreed.provider,
        model=agreed.model,
        input_tokens=taken.input_tokens,
        output_tokens=taken.output_tokens,
        held=tuple(Held(agreed.tenant, name, measure, slot, amount) for (name, measure), slot, amount in held),
        tags={},
    )


def _lock(folder: Path) -> int | None:
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        # Another worker recovered and removed it meanwhile.
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink(missing_ok=True)
    folder.rmdir()
