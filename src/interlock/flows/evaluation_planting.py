"""Documents of cases, planted in a collection of their own that only the evaluation searches.

A case's ``metadata.planted`` lists documents; each is readable by nobody but the person whom the case plays, so that
thousands of cases share a collection and none sees another's. ``reader`` gives a document to somebody else of the same
case: whether its text comes out nevertheless is what is tested.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from interlock.core.context import Context, EndUser
from interlock.core.errors import InvalidInput
from interlock.core.release import Release
from interlock.evals.types import Case
from interlock.flows.evaluation_shelf import COLLECTION
from interlock.flows.parts import Parts
from interlock.knowledge.sources import parse_spec
from interlock.stores.blob.files import FileBlobs
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import open_sql

__all__ = ["PlantedCollection", "has_planted", "planted"]

_MOST = 20_000


@dataclass(frozen=True, slots=True)
class PlantedCollection:
    """A workspace whose knowledge is the planted documents alone."""

    parts: Parts
    release: Release
    """The same release, searching them."""
    people: Mapping[str, str]
    """Case to who asks it."""

    def caller(self, ctx: Context, case: Case) -> Context:
        """`ctx` for the person whom the case plays; nothing of the answer is kept."""
        return replace(ctx.on_behalf_of(EndUser(self.people[case.id])), cache="no-store")


def has_planted(cases: Sequence[Case]) -> bool:
    """Whether any case brings documents."""
    return any("planted" in case.metadata for case in cases)


@asynccontextmanager
async def planted(parts: Parts, release: Release, cases: Sequence[Case]) -> AsyncIterator[PlantedCollection]:
    """Ingest the documents of all cases with the workspace's chunker and embedder, and remove them at the end.

    Raises: InvalidInput: a case's documents are not of the form; what an ingest raises.
    """
    people = {case.id: f"case-{number}" for number, case in enumerate(cases)}
    with TemporaryDirectory(prefix="interlock-planted-") as folder:
        home = Path(folder)
        rules = _write(home / "documents.jsonl", cases, people)
        sql, blobs = open_sql(f"sqlite:///{home / 'registry.db'}"), FileBlobs(home / "blobs")
        index = SqliteIndex(home / "index")
        try:
            await sql.migrate()
            knowledge = parts.knowledge.beside(sql, blobs, index)
            spec = {
                "collection": COLLECTION,
                "sources": [{"kind": "jsonl", "path": str(home / "documents.jsonl")}],
                "permissions": rules,
            }
            await knowledge.ingest(parts.access.local_owner(), parse_spec(spec, base=home, name="planted"))
            yield PlantedCollection(replace(parts, knowledge=knowledge), _searching(release), people)
        finally:
            await index.close()
            await blobs.close()
            await sql.close()


def _searching(release: Release) -> Release:
    retrieval = {**release.components["retrieval"], "collection": COLLECTION}
    return replace(release, components={**release.components, "retrieval": retrieval})


def _write(place: Path, cases: Sequence[Case], people: dict[str, str]) -> list[dict[str, Any]]:  # Any: rules as YAML
    """The documents as lines; fills in who asks each case, and gives who may read what."""
    rules: list[dict[str, Any]] = []  # Any: as above
    with place.open("w", encoding="utf-8") as lines:
        for number, case in enumerate(cases):
            asker = str(case.metadata.get("asker") or "asker")
            people[case.id] = f"case-{number}-{asker}"
            for at, document in enumerate(_documents(case)):
                if len(rules) == _MOST:
                    raise InvalidInput(f"cases plant {_MOST:,} documents at most", param="metadata.planted")
                name = f"p{number}-{at}"
                reader = document.get("reader") or asker
                text = document["text"]
                lines.write(json.dumps({"id": name, "title": document["name"], "text": text}) + "\n")
                rules.append({"match": name, "readers": [f"user:case-{number}-{reader}"]})
    return rules


def _documents(case: Case) -> list[dict[str, str]]:
    given = case.metadata.get("planted") or []
    if not isinstance(given, list):
        raise InvalidInput(f"case {case.id!r}: planted is a list of documents", param="metadata.planted")
    found: list[dict[str, str]] = []
    for each in given:
        if (
            not isinstance(each, dict)
            or not {"name", "text"} <= set(each) <= {"name", "text", "reader"}
            or not all(isinstance(value, str) for value in each.values())
        ):
            raise InvalidInput(
                f"case {case.id!r}: a planted document has name, text and, where somebody else owns it, reader",
                param="metadata.planted",
            )
        found.append({name: str(value) for name, value in each.items()})
    return found
