"""The tree against a naive reference written from RFC 6962 §2.1."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from interlock.governance.merkle import Frontier, inclusion_proof, leaf_hash, root_of, verify_inclusion

LEAVES = st.lists(st.binary(max_size=8), max_size=70)


def naive_root(data):
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = 1
    while k * 2 < len(data):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(data[:k]) + naive_root(data[k:])).digest()


def hashes(data):
    return [leaf_hash(item) for item in data]


@given(LEAVES)
def test_the_root_is_the_references(data):
    assert root_of(hashes(data)) == naive_root(data)


@given(LEAVES)
def test_the_frontier_keeps_one_node_for_each_bit_of_its_size(data):
    frontier = Frontier()
    for leaf in hashes(data):
        frontier = frontier.append(leaf)
    assert len(frontier.nodes) == len(data).bit_count()
    assert frontier.root == naive_root(data)


@given(LEAVES.filter(bool), st.data())
def test_every_leaf_has_a_proof_that_verifies(data, draw):
    index = draw.draw(st.integers(0, len(data) - 1))
    leaves = hashes(data)
    proof = inclusion_proof(leaves, index)
    assert len(proof) <= max(1, len(data) - 1).bit_length()
    assert verify_inclusion(leaves[index], index, len(data), proof, naive_root(data))


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=70, unique=True), st.data())
def test_a_proof_holds_for_nothing_else(data, draw):
    index = draw.draw(st.integers(0, len(data) - 1))
    other = draw.draw(st.integers(0, len(data) - 1).filter(lambda i: i != index))
    leaves, root = hashes(data), naive_root(data)
    proof = inclusion_proof(leaves, index)
    assert not verify_inclusion(leaves[other], index, len(data), proof, root)
    assert not verify_inclusion(leaves[index], other, len(data), proof, root)
    assert not verify_inclusion(leaves[index], index, len(data), proof[:-1], root)
    assert not verify_inclusion(leaves[index], index, len(data), [*proof, root], root)
    assert not verify_inclusion(leaves[index], index, len(data), [bytes(32), *proof[1:]], root)
    assert not verify_inclusion(leaves[index], index, len(data), proof, bytes(32))
    assert not verify_inclusion(leaves[index], -1, len(data), proof, root)
    assert not verify_inclusion(leaves[index], len(data), len(data), proof, root)


def test_known_roots_of_the_certificate_transparency_test_vectors():
    data = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"]
    known = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    for size, root in known.items():
        assert root_of(hashes(data[:size])).hex() == root
