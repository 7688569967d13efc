"""Responses that remember: continue an earlier one or a conversation, keep the new one when the caller wants that."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, NotFound
from interlock.flows.parts import Parts
from interlock.flows.respond import Keep
from interlock.gateway.inbound.openai_responses import reference_of, turns_of
from interlock.gateway.kept import KeptResponse
from interlock.gateway.ports import Asked

__all__ = ["Continued", "continued", "remember"]

# Any in this module: JSON objects of the API.
_MAX_ITEMS = 4_000
_MAX_REFERENCES = 200


class Continued(NamedTuple):
    """A request with all that was said before, and how to keep its answer."""

    asked: Asked
    keep: Keep | None
    new: list[dict[str, Any]]
    """Its own input, references resolved."""
    documents: frozenset[str] = frozenset()
    """What that which it continues and refers to was made from: its answer may say it again."""
    rest_on: Mapping[str, Sequence[str]] = MappingProxyType({})
    """Of the items that it refers to, by id."""


async def continued(parts: Parts, ctx: Context, asked: Asked, *, may_store: bool) -> Continued:
    """Join a request with the response or conversation it continues, and with the items it refers to.

    Args:
        may_store: the setting `gateway.store_responses`.

    Raises: NotFound: what it continues or refers to is not there for this caller, or rests on documents that the
    caller may not read any more. InvalidInput: the conversation is
    too long, or nothing may be stored.
    """
    options = asked.options
    previous, conversation = options["previous"], options["conversation"]
    if not may_store and (conversation is not None or options["background"]):
        param = "conversation" if conversation is not None else "background"
        raise InvalidInput("nothing is stored here", param=param, hint="set gateway.store_responses: true")
    new, rest_on = await _resolved(parts, ctx, list(options["items"]))
    documents = {document for each in rest_on.values() for document in each}
    before: list[dict[str, Any]] = []
    if previous is not None:
        earlier = await parts.kept.response(ctx, previous, param="previous_response_id")
        if earlier.response["status"] in {"queued", "in_progress"}:
            raise InvalidInput("the earlier response is still being made", param="previous_response_id")
        before = [*earlier.items, *earlier.response["output"]]
        documents.update(earlier.documents)
    elif conversation is not None:
        talk = await parts.conversations.items(ctx, conversation, param="conversation")
        before = [kept.item for kept in talk]
        documents.update(document for kept in talk for document in kept.documents)
    items = [*before, *new]
    if len(items) > _MAX_ITEMS:
        param = "conversation" if conversation is not None else "previous_response_id"
        raise InvalidInput(f"the conversation has more than {_MAX_ITEMS:,} items", param=param, hint="start anew")
    request = asked.request
    if before or rest_on:
        # The instructions of earlier requests do not hold for this one.
        own = tuple(message for message in request.messages[:1] if options["echo"]["instructions"])
        request = replace(request, messages=(*own, *turns_of(items)))
    store = may_store and bool(options["store"])
    told = {**options, "items": items, "echo": {**options["echo"], "store": store}}
    joined = Asked(request, told)

    async def keep(document: Mapping[str, Any], made_from: Collection[str]) -> None:
        rests_on = sorted({*documents, *made_from})
        if store:
            await parts.kept.keep_response(ctx, KeptResponse(items, dict(document), rests_on))
        await remember(parts, ctx, whole, document, made_from)

    whole = Continued(joined, None, new, frozenset(documents), rest_on)
    return whole._replace(keep=keep) if store or conversation is not None else whole


async def remember(
    parts: Parts, ctx: Context, joined: Continued, document: Mapping[str, Any], made_from: Collection[str]
) -> None:
    """Add the input and the answer to the conversation that the request named, if it named one.

    Args:
        made_from: documents of the answer itself.
    """
    talk = joined.asked.options["conversation"]
    if talk is None:
        return
    rests_on = sorted({*joined.documents, *made_from})
    rest_on = {**joined.rest_on, **{str(item["id"]): rests_on for item in document["output"]}}
    try:
        await parts.conversations.add(ctx, talk, [*joined.new, *document["output"]], rest_on=rest_on)
    except NotFound:
        # It was deleted while the answer was made: the answer stands, and there is nothing to add it to.
        return


async def _resolved(
    parts: Parts, ctx: Context, items: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Sequence[str]]]:
    """Items with what references stand for in their places, and what those rest on."""
    places = {index: identity for index, item in enumerate(items) if (identity := reference_of(item)) is not None}
    if not places:
        return items, {}
    if len(places) > _MAX_REFERENCES:
        raise InvalidInput(f"input refers to more than {_MAX_REFERENCES} items", param="input")
    wanted = set(places.values())
    found = await parts.kept.items(ctx, wanted)
    if wanted - set(found):
        found |= await parts.conversations.found(ctx, wanted - set(found))
    for index, identity in places.items():
        if identity not in found:
            raise NotFound(
                f"no item {identity[:64]!r}",
                param=f"input[{index}].id",
                code="item_not_found",
                hint="items of stored responses and conversations of the same caller can be referred to",
            )
        items[index] = found[identity].item
    return items, {identity: found[identity].documents for identity in places.values()}
