"""Consumers of an app's answers: recorded, and told at once what of the present answers they could not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput
from interlock.flows.parts import Parts
from interlock.gateway.structured.schema import check_schema
from interlock.releases.consumer_store import Consumer
from interlock.releases.consumers import Unread

__all__ = ["Readers", "add_consumer", "consumer_view", "readers", "unread_view"]

# Any in this module: JSON Schemas, and JSON on its way out.


async def add_consumer(
    parts: Parts, ctx: Context, app: str, name: str, schema: Mapping[str, Any], *, contact: str = ""
) -> tuple[Consumer, Unread | None]:
    """Record a consumer, and what it could not read of what the app's files describe; None where it can, or where the
    files are broken.

    Raises: Forbidden; NotFound; InvalidInput: its name, or the schema.
    """
    source = parts.releases.source(app, ctx)
    check_schema(schema)
    made = await parts.releases.consumers.set(ctx, source.name, name, schema, contact)
    try:
        unread = await parts.releases.unread(ctx, app, "live")
    except InterlockError:
        # What the app's files say has no part in whether somebody reads its answers.
        return made, None
    return made, next((each for each in unread if each.consumer.name == name), None)


class Readers(NamedTuple):
    """Who reads an app's answers, and how a release does by them."""

    consumers: Sequence[Consumer]
    unread: Sequence[Unread] | None
    """None where the app's files cannot be read: then nothing is known of them."""
    error: str = ""


async def readers(parts: Parts, ctx: Context, app: str, release: str) -> Readers:
    """Every consumer, and what of `release` (as `Releases.pick` takes it) each could not read.

    Raises: Forbidden; NotFound.
    """
    found = await parts.releases.consumers.list(ctx, parts.releases.source(app, ctx).name)
    try:
        return Readers(found, await parts.releases.unread(ctx, app, release))
    except InvalidInput as error:
        # Whoever reads the answers is known all the same.
        return Readers(found, None, error.message)


def consumer_view(consumer: Consumer) -> dict[str, Any]:
    """One consumer."""
    return {
        "name": consumer.name,
        "contact": consumer.contact,
        "schema": dict(consumer.schema),
        "digest": consumer.digest,
        "set_by": consumer.set_by,
        "set_at": consumer.set_at.isoformat(),
    }


def unread_view(unread: Unread) -> dict[str, Any]:
    """What of a release a consumer could not read."""
    return {
        "consumer": unread.consumer.name,
        "state": "accepted" if unread.accepted else "incompatible" if unread.certain else "undecided",
        "misfits": [each._asdict() for each in unread.misfits],
    }
