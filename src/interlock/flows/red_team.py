"""Attack a target: what it takes decides which attacks are made; what they show is evidence of its release."""

from __future__ import annotations

from interlock.core.errors import InvalidInput
from interlock.evals.redteam.types import Need
from interlock.flows.chat import has_knowledge
from interlock.flows.parts import Parts
from interlock.flows.pipelines.types import pipeline_of

__all__ = ["ALONE", "reach_of"]

ALONE: frozenset[Need] = frozenset({"system", "tools", "open"})
"""What endpoints, programs, functions and routes take."""


async def reach_of(parts: Parts, address: str) -> frozenset[Need]:
    """What attacks may use of a target of the workspace.

    An app puts its own prompt where a system message would stand; one that answers from documents takes no other task
    and no tools, and one that works through a text takes neither. Raises: NotFound, InvalidInput.
    """
    if address.startswith("model:"):
        parts.gateway.route(address.removeprefix("model:"))
        return ALONE
    owner = parts.access.local_owner()
    if address.startswith("release:"):
        app, _, wanted = address.removeprefix("release:").partition(":")
        if not wanted:
            raise InvalidInput(f"{address!r} names no release", param="target", hint="release:APP:ID")
        release = await parts.releases.load(owner, app, wanted)
    else:
        release = await parts.releases.resolve(owner, address)
    if has_knowledge(release):
        return frozenset({"prompt", "documents"})
    if pipeline_of(release) is not None:
        return frozenset({"prompt"})
    return frozenset({"prompt", "tools", "open"})
