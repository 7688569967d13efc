"""Evaluate flags: those that are declared, and which release, channel and arm an app has for a unit."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from interlock.core.context import Context, EndUser
from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.core.release import Release
from interlock.flows.parts import Parts
from interlock.releases.flags.evaluating import evaluate
from interlock.releases.flags.types import RESERVED, FlagSpec, Resolution
from interlock.releases.types import AppSource

__all__ = ["Unresolved", "evaluate_all", "evaluate_one"]

_log = logging.getLogger("interlock.flags")

# Any in this module: the attributes of an evaluation context are JSON of the caller's own.


class Unresolved(InvalidInput):
    """One flag of many that could not be evaluated; `code` says why."""

    def __init__(self, key: str, error: InterlockError) -> None:
        super().__init__(error.message, hint=error.hint, param=error.param, code=error.code)
        self.key = key


async def evaluate_one(parts: Parts, ctx: Context, key: str, context: Mapping[str, Any]) -> Resolution:
    """What one flag is: `FLAG` of the workspace, ``APP.FLAG``, ``APP.release``, ``APP.channel``, ``APP.arm``.

    An app may be named with a channel: ``APP@stage.release``.

    Args:
        context: `targetingKey` is the unit: an end user, or a conversation where `unit` says so; without it the
            caller itself. `groups` are the end user's. Nothing is read by them: they only decide what the unit gets.

    Raises: NotFound: no such flag; InvalidInput: a split without a targeting key, a context that is none.
    """
    asked = _as_unit(ctx, context)
    app, dot, name = key.rpartition(".")
    if not dot:
        spec = parts.releases.flags().get(key)
        if spec is None:
            raise NotFound(f"no flag {key[:64]!r}", param="key")
        return await _declared(parts, asked, key, spec, context)
    try:
        source = parts.releases.source(app.partition("@")[0], ctx)
    except NotFound as error:
        raise NotFound(f"no flag {key[:128]!r}", param="key") from error
    if name in RESERVED:
        return _of_release(key, name, await parts.releases.resolve(asked, f"app/{app}"))
    spec = source.flags().get(name)
    if spec is None or "@" in app:
        raise NotFound(f"no flag {key[:128]!r}", param="key")
    return await _declared(parts, asked, key, spec, context)


async def evaluate_all(parts: Parts, ctx: Context, context: Mapping[str, Any]) -> Sequence[Resolution | Unresolved]:
    """Every flag that the caller can ask for, by key; one that fails fails alone. Raises: InvalidInput: the context."""
    _as_unit(ctx, context)
    return [found async for found in _all(parts, ctx, context)]


async def _all(parts: Parts, ctx: Context, context: Mapping[str, Any]) -> AsyncIterator[Resolution | Unresolved]:
    keys = [*parts.releases.flags()]
    for source in parts.releases.apps(ctx):
        keys += [f"{source.name}.{name}" for name in sorted(RESERVED | set(_names(source)))]
    for key in sorted(keys):
        try:
            yield await evaluate_one(parts, ctx, key, context)
        except InterlockError as error:
            yield Unresolved(key, error)
        except Exception:  # noqa: BLE001 - a border: one flag must not keep the others from their callers
            _log.exception("a flag cannot be evaluated")
            yield Unresolved(key, InvalidInput("the flag cannot be evaluated", param="key", code="internal"))


def _names(source: AppSource) -> Mapping[str, FlagSpec]:
    try:
        return source.flags()
    except InvalidInput:
        # Its own three say what is wrong with the file.
        return {}


def _as_unit(ctx: Context, context: Mapping[str, Any]) -> Context:
    """The caller with the unit that the flag is asked for: for drawing alone, no right follows from it."""
    key, unit, groups = context.get("targetingKey"), context.get("unit", "user"), context.get("groups", [])
    if key is not None and (not isinstance(key, str) or len(key) > 256):
        raise InvalidInput("a targeting key is a text of 256 characters at most", param="context.targetingKey")
    if unit not in {"user", "conversation"}:
        raise InvalidInput("a unit is a user or a conversation", param="context.unit")
    if not isinstance(groups, list) or not all(isinstance(each, str) for each in groups):
        raise InvalidInput("groups are a list of names", param="context.groups")
    if not key:
        return ctx
    if unit == "conversation":
        return replace(ctx, end_user=None, conversation=key)
    return replace(ctx, end_user=EndUser(key, frozenset(groups)), conversation=None)


async def _declared(parts: Parts, asked: Context, key: str, spec: FlagSpec, context: Mapping[str, Any]) -> Resolution:
    arms: dict[str, str | None] = {}
    for named in {rule.arm_of for rule in spec.rules if rule.arm_of is not None and spec.enabled}:
        release = await parts.releases.resolve(asked, f"app/{named}")
        arms[named] = None if release.assignment is None else release.assignment.arm
    return evaluate(key, spec, context, arms)


def _of_release(key: str, name: str, release: Release) -> Resolution:
    told: dict[str, str | bool | int | float] = {"app": release.app, "channel": release.channel}
    given = release.assignment
    if given is not None:
        told |= {"rollout": given.rollout, "arm": given.arm}
    if name == "arm":
        # Who takes part in nothing keeps what the code says.
        return Resolution(key, "DEFAULT", metadata=told) if given is None else _split(key, given.arm, given.arm, told)
    if name == "channel":
        return Resolution(key, "STATIC", release.channel, release.channel, told)
    if given is None:
        return Resolution(key, "STATIC", release.id, release.channel, told)
    return _split(key, release.id, given.arm, told)


def _split(key: str, value: str, variant: str, told: Mapping[str, str | bool | int | float]) -> Resolution:
    return Resolution(key, "SPLIT", value, variant, told)
