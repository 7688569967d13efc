"""The Merkle tree of RFC 6962 §2.1: roots, inclusion proofs, and a frontier that appends in O(log n)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Frontier", "inclusion_proof", "leaf_hash", "root_of", "verify_inclusion"]


def leaf_hash(data: bytes) -> bytes:
    """``SHA-256(0x00 ‖ data)``: leaves and nodes never collide."""
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The roots of the perfect subtrees of a tree of `size` leaves, largest first: all that appending needs."""

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> Frontier:
        """The frontier with one more leaf hash."""
        return self.extend([leaf])

    def extend(self, leaves: Sequence[bytes]) -> Frontier:
        """The frontier with more leaf hashes."""
        nodes, size = list(self.nodes), self.size
        for leaf in leaves:
            node, left = leaf, size
            # Each trailing 1 bit of the old size is a perfect subtree that the new leaf completes.
            while left & 1:
                node = _node(nodes.pop(), node)
                left >>= 1
            nodes.append(node)
            size += 1
        return Frontier(size, tuple(nodes))

    @property
    def root(self) -> bytes:
        """Merkle tree hash; of an empty tree the hash of the empty string."""
        if not self.nodes:
            return hashlib.sha256(b"").digest()
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = _node(node, root)
        return root


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier = frontier.append(leaf)
    return frontier.root


def _split(size: int) -> int:
    """Largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Audit path of leaf `index`, lowest level first (RFC 6962 §2.1.1). Raises: IndexError."""
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion_proof(leaves[:k], index), root_of(leaves[k:])]
    return [*inclusion_proof(leaves[k:], index - k), root_of(leaves[:k])]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """True when `proof` shows that `leaf` stands at `index` of the tree of `size` leaves with `root`."""
    if not 0 <= index < size:
        return False

    def climb(index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
        if size == 1:
            return leaf if not proof else None
        if not proof:
            return None
        k = _split(size)
        if index < k:
            below = climb(index, k, proof[:-1])
            return None if below is None else _node(below, proof[-1])
        below = climb(index - k, size - k, proof[:-1])
        return None if below is None else _node(proof[-1], below)

    return climb(index, size, list(proof)) == root
