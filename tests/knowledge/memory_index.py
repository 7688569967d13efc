"""A small Index in memory, to test knowledge without a back end."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from interlock.core.errors import InvalidInput
from interlock.stores.index.base import Hit, IndexStats


class MemoryIndex:
    def __init__(self):
        self.rows = {}

    def _of(self, scope):
        return self.rows.setdefault((scope.tenant, scope.collection), {})

    async def apply(self, scope, *, upsert, delete):
        rows = self._of(scope)
        if any(len(row.vector) == 0 for row in upsert):
            raise InvalidInput("empty vector")
        gone = {*delete, *(row.document_id for row in upsert)}
        kept = {key: value for key, value in rows.items() if value[0].document_id not in gone}
        kept.update({row.passage_id: (row, row.readers, scope.embedder) for row in upsert})
        self.rows[scope.tenant, scope.collection] = kept

    async def set_readers(self, scope, document, readers):
        rows = self._of(scope)
        for key, (row, _, embedder) in rows.items():
            if row.document_id == document:
                rows[key] = (row, readers, embedder)

    def _visible(self, scope, readers):
        return [row for row, own, _ in self._of(scope).values() if own & readers]

    async def dense(self, scope, vector, *, readers, k):
        hits = [
            Hit(row.passage_id, row.document_id, float(np.dot(row.vector, vector)), row.payload)
            for row in self._visible(scope, readers)
        ]
        return sorted(hits, key=lambda hit: -hit.score)[:k]

    async def lexical(self, scope, terms, *, readers, k):
        rows = self._visible(scope, readers)
        counts = [Counter(row.terms.split()) for row in rows]
        hits = []
        for row, count in zip(rows, counts, strict=True):
            score = sum(
                math.log(1 + len(rows) / (1 + sum(t in c for c in counts))) * count[t] / (count[t] + 1) for t in terms
            )
            if score > 0:
                hits.append(Hit(row.passage_id, row.document_id, score, row.payload))
        return sorted(hits, key=lambda hit: -hit.score)[:k]

    async def get(self, scope, passages, *, readers):
        return [
            Hit(r.passage_id, r.document_id, 0.0, r.payload)
            for r in self._visible(scope, readers)
            if r.passage_id in passages
        ]

    async def document_passages(self, scope, document, *, readers):
        return [
            Hit(r.passage_id, r.document_id, 0.0, r.payload)
            for r in self._visible(scope, readers)
            if r.document_id == document
        ]

    async def stats(self, scope):
        rows = [row for row, _, _ in self._of(scope).values()]
        return IndexStats(len(rows), len({row.document_id for row in rows}), 0)

    async def drop(self, tenant, collection=None):
        for key in list(self.rows):
            if key[0] == tenant and collection in (None, key[1]):
                del self.rows[key]

    async def close(self):
        self.rows.clear()
