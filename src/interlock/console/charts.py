"""Charts as numbers for SVG: drawn on the server, scaled by the browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Spark", "change", "spark"]

WIDTH, HEIGHT = 240, 36


class Spark(NamedTuple):
    """A small line over equal slices of time."""

    line: str
    """Points of a polyline."""
    area: str
    """The same as a path down to the ground."""
    values: tuple[float, ...]
    label: str
    """For people who cannot see it."""


def spark(values: Sequence[float], *, unit: str = "", ceiling: float | None = None) -> Spark:
    """Place values in a box of 240 by 36, zero at the bottom.

    Args:
        values: oldest first, at least two.
        unit: after each number of the label.
        ceiling: top of the scale; the largest value when None.
    """
    top = max(max(values, default=0.0) if ceiling is None else ceiling, 1e-9)
    step = WIDTH / max(1, len(values) - 1)
    points = [(i * step, HEIGHT - 1 - min(value, top) / top * (HEIGHT - 3)) for i, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    area = f"M0,{HEIGHT} " + " ".join(f"L{x:.1f},{y:.1f}" for x, y in points) + f" L{WIDTH},{HEIGHT} Z"
    label = f"lowest {min(values):,.4g}{unit}, highest {max(values):,.4g}{unit}, last {values[-1]:,.4g}{unit}"
    return Spark(line, area, tuple(values), label)


def change(now: float, before: float) -> str:
    """How a figure moved since the period before, in words; empty when there was nothing before."""
    if before == 0:
        return ""
    share = (now - before) / before * 100
    if abs(share) < 0.5:
        return "as the day before"
    return f"{share:+,.0f} % on the day before".replace("-", "−")
