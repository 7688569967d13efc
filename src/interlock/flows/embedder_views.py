"""Embedding spaces and what became of them as JSON, the same for the API, the command line and the console."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from interlock.knowledge.spaces.types import BuildReport, Space, SpacesStatus
from interlock.stats.intervals import Interval

if TYPE_CHECKING:
    from interlock.flows.embedder_change import SpaceComparison, SpaceFigure

__all__ = ["build_view", "comparison_view", "status_view"]

_SHOWN = 50
"""Documents that are named; the others are counted."""

# Any in this module: JSON on its way out.


def status_view(status: SpacesStatus) -> dict[str, Any]:
    """Where a collection stands."""
    return {
        "collection": status.collection,
        "documents": status.documents,
        "passages": status.passages,
        "answers": _space(status.answers, status),
        "configured": {
            "space": status.configured,
            "error": status.configured_error,
            "answers": status.configured == status.answers.id,
        },
        "beside": None
        if status.beside is None
        else {
            **_space(status.beside, status),
            "complete": status.complete,
            "outstanding": len(status.outstanding),
            "lacks": [one.source for one in status.outstanding[:_SHOWN]],
        },
    }


def _space(space: Space, status: SpacesStatus) -> dict[str, Any]:
    opening = space.opening
    return {
        "space": space.id,
        "embedder": None if opening is None else opening.name,
        "model": "" if opening is None else opening.model,
        "size_bytes": status.sizes.get(space.id, 0),
        "build_seconds": round(space.seconds, 1),
        "tokens": space.tokens,
        "built_at": None if space.built_at is None else space.built_at.isoformat(),
        "switched_at": None if space.switched_at is None else space.switched_at.isoformat(),
        "switched_by": space.switched_by,
        "error": {"code": space.error_code, "message": space.error_message} if space.error_code else None,
        "comparison": None if space.comparison is None else dict(space.comparison),
    }


def build_view(report: BuildReport) -> dict[str, Any]:
    """What a build did."""
    return {**asdict(report), "seconds": round(report.seconds, 1)}


def comparison_view(found: SpaceComparison) -> dict[str, Any]:
    """Two spaces compared."""
    return {
        "collection": found.collection,
        "answers": found.answers,
        "beside": found.beside,
        "questions": found.questions,
        "figures": {figure.name: _figure(figure) for figure in found.figures},
        "titles": found.titles,
        "overlap@10": {
            mode: {"value": round(value, 4), "interval": _rounded(interval)}
            for mode, (value, interval) in found.overlap.items()
        },
        "own_document": {figure.name: _figure(figure) for figure in found.own},
        "search_ms": {which: {"p50": round(a, 1), "p95": round(b, 1)} for which, (a, b) in found.search_ms.items()},
        "size_bytes": dict(found.size_bytes),
    }


def _figure(figure: SpaceFigure) -> dict[str, Any]:
    return {
        "answers": round(figure.answers, 4),
        "beside": round(figure.beside, 4),
        "gain": round(figure.gain, 4),
        "interval": _rounded(figure.interval),
    }


def _rounded(interval: Interval) -> list[float]:
    return [round(interval[0], 4), round(interval[1], 4)]
