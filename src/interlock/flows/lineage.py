"""From a source's version to an answer, as OpenLineage 2.0.2 run events.

An ingest is a run of the job ``ingest COLLECTION``: sources in, the collection at one snapshot out. An answer is a run
of the job ``app NAME``: the cited documents, each at the version that the snapshot held, in; the answer out. Titles and
texts are in none of them: paths, ids and digests are.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from interlock import __version__
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import NotFound
from interlock.core.ids import DocumentId, TenantId
from interlock.flows.parts import Parts
from interlock.governance.types import AuditLine
from interlock.knowledge.history.types import Entry
from interlock.knowledge.sources import Source, SourceSpec
from interlock.stores.jobs.base import Job

__all__ = ["answer_lineage", "collection_lineage", "ingest_event"]

RunState = Literal["START", "COMPLETE", "FAIL", "ABORT"]
_PRODUCER = f"urn:interlock:{__version__}"
_SPEC = "https://openlineage.io/spec"
_SCHEMA = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_RUNS = uuid.UUID("5b0d7a3e-6f0e-5d53-9a54-2f1f7f6a2c11")
"""Namespace of our run ids, so that the same job run has the same id wherever it is exported from."""
_MOST_LINES = 20_000
_PAGE = 500

# Any in this module: JSON of a published format.


def ingest_event(
    ctx: Context, job: Job, spec: SourceSpec, state: RunState, *, snapshot: str = "", at: datetime | None = None
) -> dict[str, Any]:
    """One event of one run of an ingest.

    Args:
        snapshot: what the collection is now, with `COMPLETE`.
        at: when it happened; now when None.
    """
    sources = [source for source in spec.sources if job.payload.get("source") in {None, source.name}]
    inputs = [_source(ctx.tenant, spec.collection, source) for source in sources]
    outputs = [_collection(ctx.tenant, spec.collection, snapshot)]
    run = str(uuid.uuid5(_RUNS, f"{ctx.tenant}/{job.id}/{job.attempt}"))
    return _event(state, run, _job(ctx.tenant, f"ingest {spec.collection}"), inputs=inputs, outputs=outputs, at=at)


async def collection_lineage(parts: Parts, ctx: Context, spec: SourceSpec) -> list[dict[str, Any]]:
    """Runs of a collection that the job queue still knows, oldest first. Needs the role developer or operator."""
    ctx.require(Role.DEVELOPER, Role.OPERATOR)
    events: list[dict[str, Any]] = []
    for job in reversed(await parts.jobs.list(ctx.tenant, kind="ingest", limit=_PAGE)):
        if job.payload.get("collection") != spec.collection or {"rollback", "rebuild"} & set(job.payload):
            continue
        events.append(ingest_event(ctx, job, spec, "START", at=job.created_at))
        ended: RunState | None = {"succeeded": "COMPLETE", "failed": "FAIL", "cancelled": "ABORT"}.get(job.state)  # type: ignore[assignment]  # a dict of literals is a dict of str
        if ended is not None:
            snapshot = str(job.result.get("snapshot", ""))
            events.append(ingest_event(ctx, job, spec, ended, snapshot=snapshot, at=job.updated_at))
    return events


async def answer_lineage(parts: Parts, ctx: Context, trace_id: str) -> list[dict[str, Any]]:
    """The run that wrote an answer, by its trace. Needs the role operator, risk or auditor.

    Raises: NotFound: no answer of this trace among the latest 20,000 audit lines, or it rests on no documents.
    """
    ctx.require(Role.OPERATOR, Role.RISK, Role.AUDITOR)
    line = await _line_of(parts, ctx, trace_id)
    snapshot = str(line.details.get("snapshot", ""))
    cited = [DocumentId(one) for one in str(line.details.get("documents", "")).split(",") if one]
    entries = await parts.knowledge.history.entries_of(ctx, snapshot) if snapshot else {}
    inputs = [_document(ctx.tenant, one, entries.get(one), snapshot) for one in cited]
    outputs = [_dataset(_namespace(ctx.tenant), f"answers/{trace_id}")]
    run = str(uuid.UUID(hex=trace_id))
    return [
        _event("COMPLETE", run, _job(ctx.tenant, f"app {line.subject}"), inputs=inputs, outputs=outputs, at=line.at)
    ]


async def _line_of(parts: Parts, ctx: Context, trace_id: str) -> AuditLine:
    before: int | None = None
    for _ in range(_MOST_LINES // _PAGE):
        lines = await parts.governance.lines(ctx, before=before, action="chat.answer", limit=_PAGE)
        for line in lines:
            if line.trace_id == trace_id and line.details.get("snapshot"):
                return line
        if len(lines) < _PAGE:
            break
        before = lines[-1].seq
    raise NotFound(f"no answer from documents has the trace {trace_id[:64]!r}", param="answer")


def _namespace(tenant: TenantId) -> str:
    return f"interlock://{tenant}"


def _job(tenant: TenantId, name: str) -> dict[str, Any]:
    kind = {"processingType": "BATCH" if name.startswith("ingest") else "STREAMING", "integration": "INTERLOCK"}
    facet = _facet("2-0-3/JobTypeJobFacet.json#/$defs/JobTypeJobFacet", **kind, jobType="JOB")
    return {"namespace": _namespace(tenant), "name": name, "facets": {"jobType": facet}}


def _source(tenant: TenantId, collection: str, source: Source) -> dict[str, Any]:
    named = "1-0-1/DatasourceDatasetFacet.json#/$defs/DatasourceDatasetFacet"
    place = _facet(named, name=f"{source.kind} {source.name}", uri=source.place())
    facets = {"dataSource": place, **_ownership(source.owner)}
    return _dataset(_namespace(tenant), f"sources/{collection}/{source.name}", **facets)


def _collection(tenant: TenantId, collection: str, snapshot: str) -> dict[str, Any]:
    return _dataset(_namespace(tenant), f"collections/{collection}", **_version(snapshot))


def _document(tenant: TenantId, document: str, entry: Entry | None, snapshot: str) -> dict[str, Any]:
    """A cited document; of one that was erased since, only the id is left."""
    facets = _version(entry.text_digest) if entry else {}
    facets["interlock_citation"] = _facet(
        "2-0-2/OpenLineage.json#/$defs/DatasetFacet",
        snapshot=snapshot,
        source=entry.source if entry else None,
        erased=entry is None,
    )
    return _dataset(_namespace(tenant), f"documents/{document}", **facets)


def _version(version: str) -> dict[str, Any]:
    if not version:
        return {}
    named = "1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
    return {"version": _facet(named, datasetVersion=version)}


def _ownership(owner: str) -> dict[str, Any]:
    if not owner:
        return {}
    named = "1-0-1/OwnershipDatasetFacet.json#/$defs/OwnershipDatasetFacet"
    return {"ownership": _facet(named, owners=[{"name": owner}])}


def _facet(schema: str, **values: Any) -> dict[str, Any]:
    kind = "facets/" if "Facet.json" in schema else ""
    return {"_producer": _PRODUCER, "_schemaURL": f"{_SPEC}/{kind}{schema}", **values}


def _dataset(namespace: str, name: str, **facets: Any) -> dict[str, Any]:
    return {"namespace": namespace, "name": name, "facets": facets}


def _event(
    state: RunState,
    run: str,
    job: Mapping[str, Any],
    *,
    inputs: list[dict[str, Any]],
    outputs: list[dict[str, Any]],
    at: datetime | None,
) -> dict[str, Any]:
    return {
        "eventType": state,
        "eventTime": (at or now()).isoformat(),
        "run": {"runId": run, "facets": {}},
        "job": dict(job),
        "inputs": inputs,
        "outputs": outputs,
        "producer": _PRODUCER,
        "schemaURL": _SCHEMA,
    }
