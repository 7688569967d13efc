# ruff: noqa: D102 - a test name is a sentence
"""What every `Index` must do: above all, agree with a search by hand over the rows a reader may see."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.core.errors import InvalidInput
from interlock.core.ids import DocumentId, PassageId, TenantId
from interlock.stores.index.base import Hit, Index, IndexRow, IndexScope, IndexStats

__all__ = ["IndexSuite", "make_row"]

PUBLIC = frozenset({"public"})
NOBODY: frozenset[str] = frozenset()
_VOCABULARY = ["alpha", "beta", "gamma", "c++", "naïve", "日本", "a'b", 'x"y', "or", "near(", "*", "foo-bar", "$5"]
_SYNTAX = ['"', '" OR "', "NEAR(a b)", "terms:x", "a*", "^a", "'; --", "-a", "(", "AND", "NOT alpha", "\x00", "{a}: b"]
_READERS = ["public", "user:1", "group:a", "group:b", "group:\"odd'"]
_QUERIES = st.lists(st.sampled_from([*_VOCABULARY, "absent"]), min_size=1, max_size=4)


def make_row(  # noqa: D103 - the parameters say it
    passage: str, document: str = "d1", terms: str = "alpha", readers: frozenset[str] = PUBLIC, angle: float = 0.0
) -> IndexRow:
    vector = [math.cos(angle), math.sin(angle), 0.0, 0.0]
    return IndexRow(PassageId(passage), DocumentId(document), terms, readers, f"payload {passage}".encode(), vector)


def _scope(tenant: str = "acme", collection: str = "docs") -> IndexScope:
    return IndexScope(TenantId(tenant), collection, "e4")


def _ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage_id for hit in hits]


@st.composite
def _corpora(draw: st.DrawFn) -> list[IndexRow]:
    sizes = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for i in range(sizes):
        words = draw(st.lists(st.sampled_from(_VOCABULARY), max_size=8))
        readers = frozenset(draw(st.sets(st.sampled_from(_READERS), max_size=3)))
        raw = rng.normal(size=4)
        vector = (raw / np.linalg.norm(raw)).astype(np.float32)
        document = DocumentId(f"d{i // 3}")
        rows.append(IndexRow(PassageId(f"p{i}"), document, " ".join(words), readers, b"%d" % i, vector))
    # Readers belong to a document: its first passage decides.
    first = {row.document_id: row.readers for row in reversed(rows)}
    return [replace(row, readers=first[row.document_id]) for row in rows]


def _bm25(rows: Sequence[IndexRow], query: Sequence[str]) -> dict[str, float]:
    """BM25 by hand over the rows that one may read, for those that contain a query word."""
    if not rows:
        return {}
    lengths = [len(row.terms.split()) for row in rows]
    mean = sum(lengths) / len(rows)
    scores: dict[str, float] = {}
    for word in set(query):
        n = sum(word in row.terms.split() for row in rows)
        weight = max(math.log((len(rows) - n + 0.5) / (n + 0.5)), 0.0) or 1e-6
        for row, length in zip(rows, lengths, strict=True):
            tf = Counter(row.terms.split())[word]
            if tf:
                score = weight * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / mean))
                scores[row.passage_id] = scores.get(row.passage_id, 0.0) + score
    return scores


def _agrees(hits: Sequence[Hit], expected: dict[str, float], k: int) -> None:
    """`hits` are the top `k` of `expected`, where near-equal scores may come in either order."""
    assert len(hits) == min(k, len(expected))
    assert len(set(_ids(hits))) == len(hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit, best in zip(hits, sorted(expected.values(), reverse=True), strict=False):
        assert hit.score == pytest.approx(best, rel=1e-4, abs=1e-5)
        assert hit.score == pytest.approx(expected[hit.passage_id], rel=1e-4, abs=1e-5)


class IndexSuite:
    """Needs a fixture ``index``: an empty store."""

    async def test_rows_are_found_by_meaning_and_by_words(self, index: Index) -> None:
        rows = [make_row("p1", "d1", "alpha beta", angle=0.0), make_row("p2", "d2", "gamma", angle=1.0)]
        rows += [make_row(f"x{i}", f"d{i + 3}", "other words", angle=2.0) for i in range(5)]
        await index.apply(_scope(), upsert=rows, delete=[])
        dense = await index.dense(_scope(), [1.0, 0.0, 0.0, 0.0], readers=PUBLIC, k=2)
        assert _ids(dense) == ["p1", "p2"]
        assert (dense[0].document_id, dense[0].payload) == ("d1", b"payload p1")
        assert dense[0].score == pytest.approx(1.0)
        assert dense[1].score == pytest.approx(math.cos(1.0), abs=1e-5)
        lexical = await index.lexical(_scope(), ["gamma", "nothing"], readers=PUBLIC, k=5)
        assert _ids(lexical) == ["p2"]
        assert lexical[0].score > 0

    @given(rows=_corpora(), readers=st.sets(st.sampled_from(_READERS)), query=_QUERIES, k=st.integers(1, 12))
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    async def test_both_legs_equal_a_search_by_hand_over_readable_rows(
        self, index: Index, rows: list[IndexRow], readers: set[str], query: list[str], k: int
    ) -> None:
        scope = _scope(collection=uuid4().hex)
        await index.apply(scope, upsert=rows[: len(rows) // 2], delete=[])
        await index.apply(scope, upsert=rows, delete=[])  # replaces documents whole
        who = frozenset(readers)
        readable = {row.passage_id for row in rows if row.readers & who}
        vector = np.asarray(rows[0].vector)
        cosines: dict[str, float] = {
            row.passage_id: float(np.dot(vector, row.vector)) for row in rows if row.passage_id in readable
        }
        _agrees(await index.dense(scope, vector, readers=who, k=k), cosines, k)
        scores = _bm25([row for row in rows if row.passage_id in readable], query)
        _agrees(await index.lexical(scope, query, readers=who, k=k), scores, k)
        got = await index.get(scope, [row.passage_id for row in rows], readers=who)
        assert {hit.passage_id for hit in got} == readable
        for documents in (frozenset[DocumentId](), frozenset(row.document_id for row in rows[::4])):
            inside = {row.passage_id for row in rows if row.document_id in documents} & readable
            near = await index.dense(scope, vector, readers=who, k=k, documents=documents)
            _agrees(near, {passage: cosines[passage] for passage in inside}, k)
            said = await index.lexical(scope, query, readers=who, k=k, documents=documents)
            _agrees(said, {passage: scores[passage] for passage in inside & scores.keys()}, k)
        await index.drop(scope.tenant, scope.collection)

    @given(rows=_corpora(), readers=st.sets(st.sampled_from(_READERS), min_size=1), query=_QUERIES)
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    async def test_rows_one_may_not_read_change_no_score(
        self, index: Index, rows: list[IndexRow], readers: set[str], query: list[str]
    ) -> None:
        who = frozenset(readers)
        mine = [row for row in rows if row.readers & who]
        among, alone = _scope(collection=uuid4().hex), _scope(collection=uuid4().hex)
        await index.apply(among, upsert=rows, delete=[])
        await index.apply(alone, upsert=mine, delete=[])
        within = frozenset(row.document_id for row in rows[::2])
        for documents in (None, within):
            with_hidden = await index.lexical(among, query, readers=who, k=50, documents=documents)
            without = await index.lexical(alone, query, readers=who, k=50, documents=documents)
            scores = {hit.passage_id: hit.score for hit in without}
            assert {hit.passage_id: hit.score for hit in with_hidden} == pytest.approx(scores, rel=0, abs=1e-6)
        # The same once rows become unreadable, and once they are readable again.
        if mine:
            gone = mine[0].document_id
            await index.set_readers(among, gone, frozenset({"user:2"}))
            await index.apply(alone, upsert=[], delete=[gone])
            with_hidden = await index.lexical(among, query, readers=who, k=50)
            scores = {hit.passage_id: hit.score for hit in await index.lexical(alone, query, readers=who, k=50)}
            assert {hit.passage_id: hit.score for hit in with_hidden} == pytest.approx(scores, rel=0, abs=1e-6)
            everyone = who | {"user:2"}
            back = [row for row in rows if row.readers & who or row.document_id == gone]
            found = {hit.passage_id: hit.score for hit in await index.lexical(among, query, readers=everyone, k=50)}
            assert found == pytest.approx(_bm25(back, query), rel=1e-4, abs=1e-5)
        await index.drop(among.tenant, among.collection)
        await index.drop(alone.tenant, alone.collection)

    async def test_a_row_without_readers_is_found_by_nobody(self, index: Index) -> None:
        await index.apply(_scope(), upsert=[make_row("p1", readers=NOBODY)], delete=[])
        for readers in (NOBODY, PUBLIC, frozenset({""}), frozenset({"[]"}), frozenset({"0"})):
            assert await index.dense(_scope(), [1.0, 0.0, 0.0, 0.0], readers=readers, k=5) == []
            assert await index.lexical(_scope(), ["alpha"], readers=readers, k=5) == []
            assert await index.get(_scope(), [PassageId("p1")], readers=readers) == []
            assert await index.document_passages(_scope(), DocumentId("d1"), readers=readers) == []

    async def test_changed_readers_count_at_once(self, index: Index) -> None:
        await index.apply(_scope(), upsert=[make_row("p1"), make_row("p2", "d2")], delete=[])
        await index.set_readers(_scope(), DocumentId("d1"), frozenset({"user:1"}))
        await index.set_readers(_scope(), DocumentId("unknown"), PUBLIC)
        for readers, expected in ((PUBLIC, ["p2"]), (frozenset({"user:1"}), ["p1"]), (frozenset({"user:2"}), [])):
            assert _ids(await index.dense(_scope(), [1.0, 0.0, 0.0, 0.0], readers=readers, k=5)) == expected
            assert _ids(await index.lexical(_scope(), ["alpha"], readers=readers, k=5)) == expected
        await index.set_readers(_scope(), DocumentId("d2"), NOBODY)
        assert await index.dense(_scope(), [1.0, 0.0, 0.0, 0.0], readers=PUBLIC, k=5) == []

    async def test_few_readable_rows_among_many_nearer_ones_are_all_found(self, index: Index) -> None:
        secret = [make_row(f"s{i}", f"s{i}", readers=frozenset({"group:x"}), angle=i / 1000) for i in range(300)]
        mine = [make_row(f"m{i}", f"m{i}", angle=2 + i / 100) for i in range(20)]
        await index.apply(_scope(), upsert=[*secret, *mine], delete=[])
        found = await index.dense(_scope(), [1.0, 0.0, 0.0, 0.0], readers=PUBLIC, k=20)
        assert _ids(found) == [f"m{i}" for i in range(20)]

    async def test_documents_are_replaced_whole_and_deleted_whole(self, index: Index) -> None:
        await index.apply(_scope(), upsert=[make_row("a1", "a"), make_row("a2", "a"), make_row("b1", "b")], delete=[])
        await index.apply(_scope(), upsert=[make_row("a3", "a", "new")], delete=[DocumentId("b"), DocumentId("none")])
        assert _ids(await index.dense(_scope(), [1.0, 0.0, 0.0, 0.0], readers=PUBLIC, k=9)) == ["a3"]
        assert await index.lexical(_scope(), ["alpha"], readers=PUBLIC, k=9) == []
        assert _ids(await index.lexical(_scope(), ["new"], readers=PUBLIC, k=9)) == ["a3"]
        assert (await index.stats(_scope()))[:2] == (1, 1)

    async def test_document_passages_keep_their_order(self, index: Index) -> None:
        names = [f"p{i}" for i in (5, 3, 9, 1)]
        await index.apply(_scope(), upsert=[make_row(name) for name in names], delete=[])
        hits = await index.document_passages(_scope(), DocumentId("d1"), readers=PUBLIC)
        assert _ids(hits) == names
        assert {hit.score for hit in hits} == {0.0}

    @pytest.mark.parametrize(
        "bad",
        [
            [replace(make_row("p2"), vector=[1.0, 0.0])],
            [replace(make_row("p2"), vector=[2.0, 0.0, 0.0, 0.0])],
            [replace(make_row("p2"), vector=[math.nan, 0.0, 0.0, 0.0])],
            [replace(make_row("p2"), vector=[0.0, 0.0, 0.0, 0.0])],
            [make_row("p2"), make_row("p2", "d3")],
            [make_row("p2", "d3"), make_row("p1", "d2")],
            [make_row("p2"), replace(make_row("p3"), passage_id=PassageId("a\x00b"))],
        ],
    )
    async def test_a_refused_row_leaves_everything_as_it_was(self, index: Index, bad: list[IndexRow]) -> None:
        await index.apply(_scope(), upsert=[make_row("p1")], delete=[])
        with pytest.raises(InvalidInput):
            await index.apply(_scope(), upsert=bad, delete=[DocumentId("d1")] if bad[-1].passage_id != "p1" else [])
        assert _ids(await index.lexical(_scope(), ["alpha"], readers=PUBLIC, k=9)) == ["p1"]
        assert _ids(await index.dense(_scope(), [1.0, 0.0, 0.0, 0.0], readers=PUBLIC, k=9)) == ["p1"]

    async def test_a_refused_first_row_leaves_no_trace(self, index: Index) -> None:
        with pytest.raises(InvalidInput):
            await index.apply(_scope(), upsert=[replace(make_row("p1"), vector=[3.0, 0.0])], delete=[])
        await index.apply(_scope(), upsert=[make_row("p1")], delete=[])
        assert (await index.stats(_scope())).passages == 1

    async def test_embedding_spaces_never_mix(self, index: Index) -> None:
        await index.apply(_scope(), upsert=[make_row("p1")], delete=[])
        other = replace(_scope(), embedder="another")
        assert await index.dense(other, [1.0, 0.0, 0.0, 0.0], readers=PUBLIC, k=5) == []
        assert _ids(await index.lexical(other, ["alpha"], readers=PUBLIC, k=5)) == ["p1"]
        with pytest.raises(InvalidInput):
            await index.apply(other, upsert=[make_row("p2", "d2")], delete=[])
        await index.apply(_scope(), upsert=[], delete=[DocumentId("d1")])
        await index.apply(other, upsert=[replace(make_row("p2"), vector=[0.0, 1.0])], delete=[])
        assert _ids(await index.dense(other, [0.0, 1.0], readers=PUBLIC, k=5)) == ["p2"]

    @pytest.mark.parametrize("k", [0, -1, 4097])
    async def test_k_is_bounded(self, index: Index, k: int) -> None:
        with pytest.raises(InvalidInput):
            await index.dense(_scope(), [1.0, 0.0, 0.0, 0.0], readers=PUBLIC, k=k)
        with pytest.raises(InvalidInput):
            await index.lexical(_scope(), ["alpha"], readers=PUBLIC, k=k)

    @given(query=st.lists(st.text(max_size=20) | st.sampled_from(_SYNTAX), max_size=5))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    async def test_no_query_has_syntax(self, index: Index, query: list[str]) -> None:
        scope = _scope(collection="syntax")
        if (await index.stats(scope)).passages == 0:
            rows = [make_row("p1", "d1", "alpha"), make_row("p2", "d2", "secret", readers=frozenset({"user:1"}))]
            await index.apply(scope, upsert=[*rows, make_row("p3", "d3", "beta")], delete=[])
        words = {word.lower() for term in query for word in term.replace("\x00", " ").split()}
        found = set(_ids(await index.lexical(scope, query, readers=PUBLIC, k=10)))
        assert found == {passage for passage, word in (("p1", "alpha"), ("p3", "beta")) if word in words}

    async def test_a_tenant_never_sees_anothers_rows(self, index: Index) -> None:
        tenants = ["A", "a", "../x", "x", "a/b", "", "x.sqlite", "ä" * 200, "%"]
        for tenant in tenants:
            await index.apply(_scope(tenant), upsert=[make_row(f"p-{tenant}", "d", "alpha")], delete=[])
        for tenant in tenants:
            mine = [f"p-{tenant}"]
            assert _ids(await index.dense(_scope(tenant), [1.0, 0.0, 0.0, 0.0], readers=PUBLIC, k=99)) == mine
            assert _ids(await index.lexical(_scope(tenant), ["alpha"], readers=PUBLIC, k=99)) == mine
            await index.check(TenantId(tenant))
            everything = [PassageId(f"p-{t}") for t in tenants]
            assert _ids(await index.get(_scope(tenant), everything, readers=PUBLIC)) == mine
            assert _ids(await index.document_passages(_scope(tenant), DocumentId("d"), readers=PUBLIC)) == mine
        await index.drop(TenantId("A"))
        assert (await index.stats(_scope("A"))) == IndexStats(0, 0, 0)
        assert (await index.stats(_scope("a"))).passages == 1

    async def test_collections_are_apart_and_dropped_apart(self, index: Index) -> None:
        for name in ("one", "two"):
            await index.apply(_scope(collection=name), upsert=[make_row("p1", terms=f"alpha {name}")], delete=[])
        await index.drop(TenantId("acme"), "one")
        await index.drop(TenantId("acme"), "never")
        assert (await index.stats(_scope(collection="one"))).passages == 0
        assert _ids(await index.lexical(_scope(collection="two"), ["alpha"], readers=PUBLIC, k=5)) == ["p1"]
        await index.drop(TenantId("acme"))
        await index.drop(TenantId("acme"))
        assert (await index.stats(_scope(collection="two"))).passages == 0
        await index.apply(_scope(collection="two"), upsert=[make_row("p9")], delete=[])
        assert (await index.stats(_scope(collection="two"))).passages == 1

    async def test_spaces_of_one_collection_share_documents_and_nothing_else(self, index: Index) -> None:
        # As a change of embedder has them: the same documents and passages, other vectors, of other lengths.
        old, new = _scope(), replace(_scope(collection="docs@0f"), embedder="e2")
        rows = [make_row("a1", "a"), make_row("b1", "b", angle=1)]
        await index.apply(old, upsert=rows, delete=[])
        short = [replace(row, vector=[0.0, 1.0] if row.document_id == "a" else [1.0, 0.0]) for row in rows]
        await index.apply(new, upsert=short, delete=[])
        assert _ids(await index.dense(old, [1.0, 0.0, 0.0, 0.0], readers=PUBLIC, k=1)) == ["a1"]
        assert _ids(await index.dense(new, [1.0, 0.0], readers=PUBLIC, k=1)) == ["b1"]
        assert (await index.stats(old))[:2] == (await index.stats(new))[:2] == (2, 2)
        # The vectors of a space are invisible under the name of another one.
        assert await index.dense(replace(new, embedder="e4"), [1.0, 0.0], readers=PUBLIC, k=1) == []
        await index.set_readers(new, DocumentId("a"), frozenset({"user:1"}))
        assert {hit.passage_id for hit in await index.lexical(old, ["alpha"], readers=PUBLIC, k=9)} == {"a1", "b1"}
        assert _ids(await index.lexical(new, ["alpha"], readers=PUBLIC, k=9)) == ["b1"]
        await index.apply(new, upsert=[], delete=[DocumentId("b")])
        assert len(await index.document_passages(old, DocumentId("b"), readers=PUBLIC)) == 1
        assert await index.document_passages(new, DocumentId("b"), readers=PUBLIC) == []
        await index.drop(new.tenant, new.collection)
        assert (await index.stats(new)).passages == 0
        assert (await index.stats(old)).passages == 2

    async def test_a_search_beside_writers_sees_each_apply_whole(self, index: Index) -> None:
        await index.apply(_scope(), upsert=[make_row(f"0-{i}") for i in range(5)], delete=[])

        async def write(round_: int) -> None:
            await index.apply(_scope(), upsert=[make_row(f"{round_}-{i}") for i in range(5)], delete=[])

        async def look() -> None:
            for hits in (
                await index.dense(_scope(), [1.0, 0.0, 0.0, 0.0], readers=PUBLIC, k=50),
                await index.lexical(_scope(), ["alpha"], readers=PUBLIC, k=50),
            ):
                assert len(hits) == 5
                assert len({hit.passage_id.split("-")[0] for hit in hits}) == 1

        await asyncio.gather(*[write(i) if i % 3 == 0 else look() for i in range(1, 31)])

    async def test_a_sound_index_is_found_sound_however_often_it_is_looked_at(self, index: Index) -> None:
        for number in range(4):
            await index.apply(_scope(), upsert=[make_row(f"p{number}", f"d{number}", "alpha beta")], delete=[])
            await index.check(TenantId("acme"))
            assert len(await index.lexical(_scope(), ["beta"], readers=PUBLIC, k=9)) == number + 1
            await index.check(TenantId("acme"))

    async def test_an_unknown_place_is_empty(self, index: Index) -> None:
        scope = _scope("nobody")
        assert await index.dense(scope, [1.0, 0.0, 0.0, 0.0], readers=PUBLIC, k=5) == []
        assert await index.lexical(scope, ["alpha"], readers=PUBLIC, k=5) == []
        assert await index.stats(scope) == IndexStats(0, 0, 0)
        await index.check(scope.tenant)
        await index.apply(scope, upsert=[], delete=[DocumentId("d")])
        await index.set_readers(scope, DocumentId("d"), PUBLIC)
        await index.drop(scope.tenant)
