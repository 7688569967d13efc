"""A release as one file: an in-toto statement with every component and the reports about it, in a signed envelope."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from interlock import __version__
from interlock.core.canonical import canonical_bytes
from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.ids import AppName, ReleaseId
from interlock.flows.parts import Parts
from interlock.releases.promotion import Evidence, EvidenceKind, Shown
from interlock.releases.service import manifest_of
from interlock.releases.types import ReleaseInfo

__all__ = ["PAYLOAD_TYPE", "Imported", "export_release", "import_release"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://interlock.dev/release/v1"


_BY_PEOPLE = frozenset({"sign_off", "consumers"})
"""Evidence that is somebody's word: who gives it here is asked here."""


class _Subject(msgspec.Struct, frozen=True):
    name: str
    digest: dict[str, str]


class _Shown(msgspec.Struct, frozen=True):
    kind: EvidenceKind
    name: str
    verdict: str
    by: str
    at: datetime
    note: str
    summary: dict[str, str | int | float | bool]
    digest: str
    report: str
    """Base64: its digest is over these bytes."""


class _Release(msgspec.Struct, frozen=True):
    app: str
    release: str
    components: dict[str, dict[str, Any]]  # Any: JSON values
    manifest: dict[str, str]
    created_at: datetime
    created_by: str
    note: str
    made_with: str
    evidence: list[_Shown]


class _Statement(msgspec.Struct, frozen=True):
    type: str = msgspec.field(name="_type")
    subject: list[_Subject]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: _Release


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import stored."""

    info: ReleaseInfo
    public_key: str
    """Who vouches for it."""
    evidence: tuple[str, ...]
    """Names of the runs that came with it."""
    left_out: tuple[str, ...]
    """Sign-offs: who signs here is asked here."""


async def export_release(parts: Parts, ctx: Context, app: str, release: str) -> bytes:
    """The file. Raises: Forbidden, NotFound; Unavailable: a blob is damaged (`interlock release verify`)."""
    info = await parts.releases.find(ctx, app, release)
    whole = await parts.releases.pick(ctx, app, info.id)
    shown = [
        _Shown(
            each.kind,
            each.name,
            each.verdict,
            each.by,
            each.at,
            each.note,
            dict(each.summary),
            each.digest,
            base64.b64encode(await parts.releases.report(ctx, app, info.id, each.digest)).decode(),
        )
        for each in await parts.releases.evidence(ctx, app, info.id)
    ]
    statement = _Statement(
        type=_STATEMENT,
        subject=[_Subject(f"app/{info.app}", {"sha256": info.id.removeprefix("sha256:")})],
        predicate_type=_PREDICATE,
        predicate=_Release(
            info.app,
            info.id,
            {kind: dict(value) for kind, value in whole.components.items()},
            dict(info.components),
            info.created_at,
            info.created_by,
            info.note,
            __version__,
            shown,
        ),
    )
    return parts.governance.seal(PAYLOAD_TYPE, canonical_bytes(msgspec.to_builtins(statement)))


async def import_release(
    parts: Parts, ctx: Context, data: bytes, *, keys: Sequence[str] = (), app: str | None = None
) -> Imported:
    """Store the release of a file that this installation, or one of `keys`, has signed.

    Args:
        keys: base64 of raw Ed25519 public keys.
        app: to store it under, where it is called otherwise here.

    Raises: InvalidInput: not signed by anybody trusted, changed, or not what it says it is; Forbidden; NotFound.
    """
    opened = parts.governance.open(data, PAYLOAD_TYPE, keys)
    try:
        statement = msgspec.json.decode(opened.payload, type=_Statement)
    except msgspec.DecodeError as error:
        raise InvalidInput("the envelope holds no statement about a release", param="file") from error
    told = statement.predicate
    if statement.type != _STATEMENT or statement.predicate_type != _PREDICATE:
        raise InvalidInput("the statement is not about a release", param="file")
    release, manifest = manifest_of(told.components)
    named = [subject.digest.get("sha256", "") for subject in statement.subject]
    if release != told.release or manifest != told.manifest or named != [release.removeprefix("sha256:")]:
        # Signed all the same: whoever wrote it was wrong about what it is.
        raise InvalidInput("the components are not those of the release that the statement names", param="file")
    name = app or told.app
    info = await parts.releases.adopt(
        ctx,
        name,
        told.components,
        note=told.note,
        signer=opened.public_key,
        evidence=[_evidence(each, name, release) for each in told.evidence if each.kind not in _BY_PEOPLE],
    )
    runs = tuple(each.name for each in told.evidence if each.kind not in _BY_PEOPLE)
    signs = tuple(f"{each.verdict} by {each.by} ({each.name})" for each in told.evidence if each.kind in _BY_PEOPLE)
    return Imported(info, opened.public_key, runs, signs)


def _evidence(given: _Shown, app: str, release: ReleaseId) -> Shown:
    try:
        report = base64.b64decode(given.report, validate=True)
    except binascii.Error as error:
        raise InvalidInput(f"the report {given.name[:64]!r} cannot be read", param="evidence") from error
    known = Evidence(
        given.digest,
        AppName(app),
        release,
        given.kind,
        given.name,
        given.verdict,
        given.by,
        given.at,
        given.note,
        given.summary,
    )
    return Shown(known, report)
