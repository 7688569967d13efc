"""Releases, demands and rollouts as JSON, the same for the API and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from interlock.releases.comparing import ReleaseDiff
from interlock.releases.experiment_store import Noted
from interlock.releases.experiments.types import Experiment
from interlock.releases.promotion import Demand, Evidence
from interlock.releases.rollout_store import Happened
from interlock.releases.rollouts.types import Rollout
from interlock.releases.types import Channel, Damage, Move, ReleaseInfo

__all__ = [
    "damage_view",
    "demand_view",
    "diff_view",
    "evidence_view",
    "experiment_view",
    "move_view",
    "release_view",
    "rollout_view",
]

# Any in this module: JSON on its way out.


def release_view(info: ReleaseInfo, channels: Sequence[Channel] = ()) -> dict[str, Any]:
    """A frozen release."""
    retired = info.retired
    return {
        "id": info.id,
        "app": info.app,
        "created_at": info.created_at.isoformat(),
        "created_by": info.created_by,
        "note": info.note,
        "channels": [each.name for each in channels if each.release == info.id],
        "components": dict(info.components),
        "retired": None
        if retired is None
        else {"at": retired.at.isoformat(), "by": retired.by, "reason": retired.reason},
    }


def evidence_view(given: Evidence) -> dict[str, Any]:
    """One thing that is known of a release."""
    return {
        "kind": given.kind,
        "name": given.name,
        "verdict": given.verdict,
        "by": given.by,
        "at": given.at.isoformat(),
        "note": given.note,
        "digest": given.digest,
        "summary": dict(given.summary),
    }


def demand_view(demand: Demand) -> dict[str, Any]:
    """One demand and whether it is met."""
    return demand._asdict()


def move_view(move: Move) -> dict[str, Any]:
    """A channel was pointed."""
    return {
        "channel": move.channel,
        "release": move.release,
        "at": move.at.isoformat(),
        "by": move.by,
        "reason": move.reason,
    }


def diff_view(diff: ReleaseDiff) -> dict[str, Any]:
    """Two releases compared."""
    return {
        "before": diff.before,
        "after": diff.after,
        "components": [
            {
                "kind": each.kind,
                "state": each.state,
                "before": each.before or None,
                "after": each.after or None,
                "changes": [
                    {"path": c.path, "kind": c.kind, "before": c.before, "after": c.after, "text": list(c.text)}
                    for c in each.changes
                ],
            }
            for each in diff.components
        ],
    }


def damage_view(damage: Damage) -> dict[str, Any]:
    """What is wrong with a stored release."""
    return {"what": damage.what, "digest": damage.digest, "why": damage.why}


def rollout_view(rollout: Rollout, history: Sequence[Happened] | None = None) -> dict[str, Any]:
    """A rollout, with what happened where that is given."""
    told: dict[str, Any] = msgspec.to_builtins(rollout, enc_hook=lambda spec: spec.model_dump(mode="json"))
    # With it anybody could tell which person a keyed hash in a trace stands for.
    del told["seed"]
    told["percent"] = rollout.percent
    if history is not None:
        told["history"] = msgspec.to_builtins(history)
    return told


def experiment_view(experiment: Experiment, history: Sequence[Noted] | None = None) -> dict[str, Any]:
    """An experiment, with what happened where that is given. What its assignment is drawn by stays here."""
    told: dict[str, Any] = msgspec.to_builtins(experiment, enc_hook=lambda spec: spec.model_dump(mode="json"))
    del told["seed"]
    if history is not None:
        told["history"] = msgspec.to_builtins(history)
    return told
