"""A comparison as a picture: quality over what it costs, with intervals, whoever stands on the frontier filled."""

from __future__ import annotations

import math
from html import escape
from typing import NamedTuple

from interlock.evals.comparing import Cell
from interlock.evals.matrix.types import Matrix

__all__ = ["Point", "cell_of", "svg"]

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 16, 44


class Point(NamedTuple):
    """One variant."""

    number: int
    label: str
    x: float
    y: float
    low: float
    high: float
    best: bool


def cell_of(matrix: Matrix, run: str, metric: str) -> Cell | None:
    """One figure of one run; None where it is not known."""
    return next((cell for cell in matrix.cells if cell.run == run and cell.metric == metric), None)


def svg(matrix: Matrix) -> str:
    """One SVG in the colour of the text around it; empty when there is nothing to draw."""
    across = _across(matrix)
    if across is None:
        return ""
    points = _points(matrix, across)
    if len(points) < 2:
        return ""
    x0, x1 = _range([point.x for point in points], zero=True)
    y0, y1 = _range([end for point in points for end in (point.low, point.high)], zero=False)

    def at(x: float, y: float) -> tuple[float, float]:
        wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + (x - x0) / (x1 - x0) * wide, _TOP + (y1 - y) / (y1 - y0) * high

    unit = {"cost": "US dollars a case", "latency": "seconds a case"}.get(across, across)
    told = "; ".join(
        f"{p.number} {p.label}: {matrix.quality} {p.y:.3f}, {across} {p.x:.4g}{', on the frontier' if p.best else ''}"
        for p in points
    )
    parts = [
        f'<svg class="frontier" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(told)}" '
        'fill="none" stroke="currentColor" font-size="12">',
        f'<path d="M{_LEFT},{_TOP} V{_HEIGHT - _BOTTOM} H{_WIDTH - _RIGHT}" opacity=".35"/>',
    ]
    for value in _ticks(y0, y1):
        _, y = at(x0, value)
        parts.append(f'<path d="M{_LEFT},{y:.1f} H{_WIDTH - _RIGHT}" opacity=".12"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{value:.3g}", "end"))
    for value in _ticks(x0, x1):
        x, _ = at(value, y0)
        parts.append(_text(x, _HEIGHT - _BOTTOM + 18, f"{value:.3g}", "middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, unit, "middle"))
    parts.append(_text(_LEFT, _TOP - 4, matrix.quality, "middle"))
    line = sorted(at(p.x, p.y) for p in points if p.best)
    if len(line) > 1:
        path = " L".join(f"{x:.1f},{y:.1f}" for x, y in line)
        parts.append(f'<path d="M{path}" opacity=".4" stroke-dasharray="4 4"/>')
    for p in points:
        x, y = at(p.x, p.y)
        _, top = at(p.x, p.high)
        _, bottom = at(p.x, p.low)
        fill = "currentColor" if p.best else "none"
        parts.append(f'<path d="M{x:.1f},{top:.1f} V{bottom:.1f}" opacity=".5"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}"/>')
        parts.append(_text(x + 9, y - 6, str(p.number), "start"))
    return "".join([*parts, "</svg>"])


def _across(matrix: Matrix) -> str | None:
    """Cost, unless nothing costs anything here: then seconds."""
    for name in ("cost", "latency"):
        if name in matrix.dimensions and any(cell.mean > 0 for cell in matrix.cells if cell.metric == name):
            return name
    return None


def _points(matrix: Matrix, across: str) -> list[Point]:
    found = []
    for number, each in enumerate(matrix.variants, start=1):
        quality, cost = cell_of(matrix, each.run, matrix.quality), cell_of(matrix, each.run, across)
        if each.error or quality is None or cost is None:
            continue
        low, high = quality.interval
        best = each.variant.label in matrix.frontier
        found.append(Point(number, each.variant.label, cost.mean, quality.mean, low, high, best))
    return found


def _range(values: list[float], *, zero: bool) -> tuple[float, float]:
    low, high = (0.0 if zero else min(values)), max(values)
    if high <= low:
        high = low + (abs(low) or 1.0)
    return low, high + (high - low) * 0.06


def _ticks(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step = next(step * each for each in (1, 2, 5, 10) if (high - low) / (step * each) <= 5)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor" stroke="none" '
        f'opacity=".8">{escape(text)}</text>'
    )
