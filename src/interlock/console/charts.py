"""Charts as numbers for SVG: drawn on the server, scaled by the browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Spark", "change", "spark"]

WIDTH, HEIGHT = 240, 36


class Spark(NamedTuple):
    """A small line over equal slices of time."""

    line: str
    """Path of the line, with a gap where nothing was measured."""
    dots: str
    """Path of values that stand alone between gaps."""
    area: str
    """Path down to the ground; empty when there are gaps."""
    values: tuple[float | None, ...]
    label: str
    """For people who cannot see it."""


def spark(values: Sequence[float | None], *, unit: str = "", ceiling: float | None = None) -> Spark:
    """Place values in a box of 240 by 36, zero at the bottom.

    Args:
        values: oldest first, at least two; None where nothing was measured.
        unit: after each number of the label.
        ceiling: top of the scale; the largest value when None.
    """
    measured = [value for value in values if value is not None]
    top = max(max(measured, default=0.0) if ceiling is None else ceiling, 1e-9)
    step = WIDTH / max(1, len(values) - 1)
    line, dots, area = "", "", f"M0,{HEIGHT}"
    for i, value in enumerate(values):
        if value is None:
            continue
        at = f"{i * step:.1f},{HEIGHT - 3 - min(value, top) / top * (HEIGHT - 6):.1f}"
        before = i > 0 and values[i - 1] is not None
        after = i + 1 < len(values) and values[i + 1] is not None
        if not before and not after:
            # A line of no length with round ends is a dot.
            dots += f" M{at} h0.01"
        else:
            line += f" L{at}" if before else f" M{at}"
        area += f" L{at}"
    whole = len(measured) == len(values)
    area = f"{area} L{WIDTH},{HEIGHT} Z" if whole else ""
    if not measured:
        return Spark("", "", "", tuple(values), "nothing measured")
    label = f"lowest {min(measured):,.4g}{unit}, highest {max(measured):,.4g}{unit}, last {measured[-1]:,.4g}{unit}"
    return Spark(line.strip(), dots.strip(), area, tuple(values), label)


def change(now: float, before: float) -> str:
    """How a figure moved since the period before, in words; empty when there was nothing before."""
    if before == 0:
        return ""
    share = (now - before) / before * 100
    if abs(share) < 0.5:
        return "as the day before"
    return f"{share:+,.0f} % on the day before".replace("-", "−")
