"""Searching and reading indexes elsewhere, each caller by its own rights, which the index is given as a filter."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from anyio import to_thread

from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, TooLarge
from interlock.core.ids import DocumentId, TenantId
from interlock.core.yaml_text import YamlFault, read_yaml
from interlock.knowledge.external import queries
from interlock.knowledge.external.client import IndexClient
from interlock.knowledge.external.rows import Malformed, Row, best_part, cosine_of, hit_of, parse_id, passes, rows_of
from interlock.knowledge.external.settings import ExternalIndex
from interlock.knowledge.filters import EVERYTHING, Filter
from interlock.knowledge.sources import parse_spec
from interlock.stores.index.base import Hit

__all__ = ["Away", "ExternalIndexes", "IndexFiles", "Leg", "nothing_to_ingest"]

_log = logging.getLogger("interlock.knowledge")
_MOST_LABELS = 10_000
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Away:
    """A collection that is searched elsewhere."""

    collection: str
    index: ExternalIndex
    languages: tuple[str, ...]
    """What its documents are written in; English when the file says nothing."""


class Leg(NamedTuple):
    """What one leg found, best first."""

    hits: list[Hit]
    rows: Mapping[DocumentId, Row]


class IndexFiles:
    """The collections of a workspace that are searched elsewhere, by their files as they are now.

    Args:
        folder: with ``*.yaml``.
        tenant: whose they are; others have none.
    """

    def __init__(self, folder: Path, tenant: TenantId) -> None:
        self._folder = folder
        self._tenant = tenant
        self._looked = -_LOOK_S
        self._stamps: dict[Path, tuple[int, int]] = {}
        self._known: dict[Path, Away | None] = {}

    def __call__(self, tenant: TenantId) -> Mapping[str, Away]:
        """Those of a tenant, by collection. A file that became unreadable counts as it was before."""
        if tenant != self._tenant:
            return {}
        if time.monotonic() - self._looked >= _LOOK_S:
            self._look()
            self._looked = time.monotonic()
        return {away.collection: away for away in self._known.values() if away is not None}

    def _look(self) -> None:
        seen: dict[Path, tuple[int, int]] = {}
        for path in sorted(self._folder.glob("*.yaml")):
            try:
                status = path.stat()
            except OSError:
                continue
            seen[path] = (status.st_mtime_ns, status.st_size)
            if self._stamps.get(path) != seen[path]:
                self._read(path)
        self._known = {path: self._known.get(path) for path in seen}
        self._stamps = seen

    def _read(self, path: Path) -> None:
        try:
            values = read_yaml(path.read_text(encoding="utf-8"))
            if not isinstance(values, Mapping) or "index" not in values:
                self._known[path] = None
                return
            spec = parse_spec(values, base=path.parent, name=path.name)
        except (OSError, UnicodeDecodeError, YamlFault, InterlockError) as error:
            _log.warning("%s cannot be read: %s", path.name, type(error).__name__)
            return
        assert spec.index is not None, "it was there"
        self._known[path] = Away(spec.collection, spec.index, spec.languages or ("en",))


class ExternalIndexes:
    """All of them.

    Args:
        of_tenant: which there are.
        environ: holds the secrets that their files name.
    """

    def __init__(
        self, of_tenant: Callable[[TenantId], Mapping[str, Away]] | None, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._of_tenant = of_tenant
        self._environ = environ
        self._clients: list[tuple[Away, IndexClient]] = []

    def all(self, tenant: TenantId) -> Mapping[str, Away]:
        """Those of a tenant, by collection."""
        return {} if self._of_tenant is None else self._of_tenant(tenant)

    def find(self, tenant: TenantId, collection: str) -> Away | None:
        """The index of a collection; None: it is ingested here, or there is none."""
        return self.all(tenant).get(collection)

    def of_document(self, tenant: TenantId, document: str) -> tuple[Away, str] | None:
        """The index of a document, and its id there."""
        parsed = parse_id(document)
        if parsed is None:
            return None
        away = self.find(tenant, parsed[0])
        return None if away is None else (away, parsed[1])

    async def close(self) -> None:
        """Close all connections."""
        clients, self._clients = self._clients, []
        for _, client in clients:
            await client.close()

    async def by_words(
        self,
        ctx: Context,
        away: Away,
        query: str,
        terms: Sequence[str],
        *,
        k: int,
        wanted: Filter,
        only: Sequence[DocumentId] | None,
    ) -> Leg:
        """The lexical leg. `terms`: words of the question, which choose the part of a long text.

        Raises: Unavailable, LimitExceeded, Misconfigured, InvalidInput (a filter), DeadlineExceeded.
        """
        filters = self._filters(ctx, away, wanted, only)
        if filters is None:
            return Leg([], {})
        rows = await self._rows(ctx, away, queries.by_words(away.index, query, filters=filters, k=k), k)
        return await _leg([(row, row.score) for row in rows if passes(row, wanted)], terms, away.languages)

    async def by_meaning(
        self,
        ctx: Context,
        away: Away,
        vector: Sequence[float],
        terms: Sequence[str],
        *,
        k: int,
        wanted: Filter,
        only: Sequence[DocumentId] | None,
    ) -> Leg:
        """The dense leg, scores as cosines. As `by_words`."""
        filters = self._filters(ctx, away, wanted, only)
        if filters is None or away.index.vector is None:
            return Leg([], {})
        rows = await self._rows(ctx, away, queries.by_meaning(away.index, vector, filters=filters, k=k), k)
        scored = [(row, cosine_of(away.index.vector, row.score)) for row in rows if passes(row, wanted)]
        return await _leg(scored, terms, away.languages)

    async def document(self, ctx: Context, away: Away, own: str) -> Row | None:
        """A document by its id there; None: it is not there for this caller, or several have this id."""
        filters = self._filters(ctx, away, EVERYTHING, None)
        if filters is None:
            return None
        asked = queries.described(away.index, [*filters, queries.identified(away.index, [own])], most=2)
        rows = await self._rows(ctx, away, asked, 2)
        return rows[0] if len(rows) == 1 and rows[0].info.readers & ctx.readers else None

    async def count(self, ctx: Context, away: Away) -> int:
        """How many documents the caller may read."""
        filters = self._filters(ctx, away, EVERYTHING, None)
        if filters is None:
            return 0
        client = self._client(away)
        outer = (await client.search(ctx, queries.counted(filters))).get("hits")
        total = outer.get("total") if isinstance(outer, dict) else None
        value = total.get("value") if isinstance(total, dict) else total
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise client.malformed("it has no number of hits")
        return value

    def _filters(
        self, ctx: Context, away: Away, wanted: Filter, only: Sequence[DocumentId] | None
    ) -> list[dict[str, Any]] | None:
        """None: nothing can pass, and the index need not be asked."""
        labels = away.index.labels(ctx.readers)
        if len(labels) > _MOST_LABELS:
            raise TooLarge(f"the caller is in more than {_MOST_LABELS} groups, more than an index can be asked by")
        narrowed = queries.narrowed(away.index, wanted)
        if not labels:
            return None
        filters = [queries.readable_by(away.index, labels), *narrowed]
        if only is not None:
            parsed = [parse_id(one) for one in only]
            own = [one[1] for one in parsed if one is not None and one[0] == away.collection]
            if not own:
                return None
            filters.append(queries.identified(away.index, own))
        return filters

    async def _rows(self, ctx: Context, away: Away, body: Mapping[str, Any], most: int) -> list[Row]:
        client = self._client(away)
        answer = await client.search(ctx, body)
        try:
            return await to_thread.run_sync(
                lambda: rows_of(answer, away.collection, away.index, languages=away.languages, most=most)
            )
        except Malformed as error:
            raise client.malformed(str(error)) from error

    def _client(self, away: Away) -> IndexClient:
        for known, client in self._clients:
            if known == away:
                return client
        # One that its file no longer describes stays until the end: a search may be under way.
        client = IndexClient(away.collection, away.index, self._environ)
        self._clients.append((away, client))
        return client


async def _leg(scored: Sequence[tuple[Row, float]], terms: Sequence[str], languages: tuple[str, ...]) -> Leg:
    def cut() -> Leg:
        hits = [hit_of(row, best_part(row.text, terms, languages), score) for row, score in scored]
        unique = {hit.passage_id: hit for hit in reversed(hits)}
        ranked = sorted(unique.values(), key=lambda hit: -hit.score)
        return Leg(ranked, {row.info.id: row for row, _ in scored})

    return await to_thread.run_sync(cut)


def nothing_to_ingest(collection: str) -> InvalidInput:
    """What is told to whoever would ingest such a collection."""
    return InvalidInput(
        f"the collection {collection!r} is searched in an index elsewhere: there is nothing to ingest",
        param="collection",
        code="index_is_external",
        hint="its documents are kept by whoever fills that index; give it sources instead of index to ingest it here",
    )
