"""Writes OLE compound files, small ones: enough to make an Outlook message for a test."""

from __future__ import annotations

import struct
from itertools import pairwise

_SECTOR, _MINI, _CUTOFF = 512, 64, 4096
_END, _FREE, _FAT = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD


class _Entry:
    def __init__(self, name, kind, data=b""):
        self.name, self.kind, self.data = name, kind, data
        self.children = []
        self.child = self.left = self.right = _FREE
        self.start = _END


def compound_file(streams):
    """A compound file of `streams`: path with ``/`` to bytes."""
    root = _Entry("Root Entry", 5)
    entries = [root]
    folders = {"": root}
    for path, data in streams.items():
        folder, _, name = path.rpartition("/")
        if folder not in folders:
            folders[folder] = _Entry(folder, 1)
            root.children.append(folders[folder])
            entries.append(folders[folder])
        entry = _Entry(name, 2, data)
        folders[folder].children.append(entry)
        entries.append(entry)
    for entry in entries:
        # A chain to the right is a valid, if crooked, search tree when it is sorted.
        ordered = sorted(entry.children, key=lambda e: (len(e.name), e.name.upper()))
        entry.child = entries.index(ordered[0]) if ordered else _FREE
        for one, other in pairwise(ordered):
            one.right = entries.index(other)
    body, fat, mini, mini_fat = bytearray(), [], bytearray(), []

    def place(data):
        start = len(fat)
        count = -(-len(data) // _SECTOR)
        body.extend(data.ljust(count * _SECTOR, b"\0"))
        fat.extend([start + n + 1 for n in range(count - 1)] + [_END] * (count > 0))
        return start if count else _END

    for entry in entries:
        if entry.kind != 2 or not entry.data:
            continue
        if len(entry.data) >= _CUTOFF:
            entry.start = place(entry.data)
            continue
        entry.start, count = len(mini_fat), -(-len(entry.data) // _MINI)
        mini += entry.data.ljust(count * _MINI, b"\0")
        mini_fat += [entry.start + n + 1 for n in range(count - 1)] + [_END]
    root.start, root.data = place(bytes(mini)), bytes(mini)
    mini_fat_start = place(struct.pack(f"<{len(mini_fat)}I", *mini_fat).ljust(_SECTOR, b"\xff")) if mini_fat else _END
    directory = b"".join(map(_directory_entry, entries))
    directory_start = place(directory.ljust(-(-len(directory) // _SECTOR) * _SECTOR, b"\0"))
    fat_start = len(fat)
    assert fat_start < 127, "one FAT sector is enough for a test"
    fat.append(_FAT)
    table = struct.pack(f"<{len(fat)}I", *fat).ljust(_SECTOR, b"\xff")
    header = struct.pack(
        "<8s16sHHHHH6xIIIIIIIIII",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"", 0x3E, 3, 0xFFFE, 9, 6,
        0, 1, directory_start, 0, _CUTOFF, mini_fat_start, 1 if mini_fat else 0, _END, 0, fat_start,
    )  # fmt: skip
    return header.ljust(_SECTOR, b"\xff") + bytes(body) + table


def _directory_entry(entry):
    name = entry.name.encode("utf-16-le") + b"\0\0"
    return struct.pack(
        "<64sHBBIII16sIQQIQ",
        name, len(name), entry.kind, 1, _FREE, entry.right, entry.child, b"", 0, 0, 0,
        entry.start if entry.start != _END or entry.kind == 2 else 0, len(entry.data),
    )  # fmt: skip
