"""Freeze what an app's files describe, and say at once what rules find in its prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from interlock.core.context import Context
from interlock.core.errors import InterlockError
from interlock.flows.parts import Parts
from interlock.flows.prompt_lint import Linted, attach_lint, lint_release
from interlock.prompts.linting import Finding
from interlock.releases.types import FROZEN_CHANNELS, ReleaseInfo

__all__ = ["Frozen", "freeze_release"]


class Frozen(NamedTuple):
    """A release that was just frozen."""

    info: ReleaseInfo
    findings: tuple[Finding, ...]
    """Of its prompt. They keep nothing from being frozen; channels whose policy says so look at them."""


async def freeze_release(
    parts: Parts, ctx: Context, app: str, note: str = "", *, changes: Mapping[str, Any] | None = None
) -> Frozen:
    """Freeze it, and keep what rules find as evidence where a channel of the app asks for that.

    Args:
        changes: to the app's file, as of `AppSource.vary`.

    Raises: as `Releases.freeze`.
    """
    info = await parts.releases.freeze(ctx, app, note, changes=changes)
    found = await _looked_over(parts, ctx, info)
    return Frozen(info, () if found is None else found.findings)


async def _looked_over(parts: Parts, ctx: Context, info: ReleaseInfo) -> Linted | None:
    release = await parts.releases.pick(ctx, info.app, info.id)
    try:
        found = await lint_release(parts, ctx, release)
    except InterlockError:
        # It is frozen already; `interlock prompt lint` tells why its prompt cannot be looked over.
        return None
    if any(parts.releases.policy(info.app, channel).lint is not None for channel in FROZEN_CHANNELS):
        await attach_lint(parts, ctx, release, found)
    return found
