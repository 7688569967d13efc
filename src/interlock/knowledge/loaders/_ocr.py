"""Text recognition in pictures (RapidOCR, models in its wheel), given as lines like those of a PDF page."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.core.errors import MissingExtra
from interlock.knowledge.loaders._budget import more_time
from interlock.knowledge.loaders._building import Rect, squeeze
from interlock.knowledge.loaders._pdf_layout import Line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PAGE_SECONDS", "Recognised", "can_recognise", "missing_extra", "recognise"]

PAGE_SECONDS = 20.0
"""Time asked for each page; a page of print takes 5 s on one core."""
_SAME_LINE = 0.5
"""Two boxes share a line when they overlap by this share of the lower one's height."""
_COLUMN_GAP = 1.5
_USUAL_SIZE = 0.35
"""Heights of boxes differ with the letters in them: nearer to the usual height than this is the usual height."""
_LETTER_HEIGHT = 0.75
"""A box is somewhat higher than its letters."""


class Recognised(NamedTuple):
    """One picture, read."""

    lines: list[Line]
    confidence: float
    """Mean over the boxes, 0 to 1; 0 when nothing was found."""


class _Piece(NamedTuple):
    text: str
    left: float
    top: float
    right: float
    bottom: float


def can_recognise() -> bool:
    """Whether the extra is installed. Imports nothing."""
    return importlib.util.find_spec("rapidocr") is not None


def missing_extra(what: str) -> MissingExtra:
    """`what` needs text recognition, which is not installed."""
    return MissingExtra(f"{what} needs text recognition", hint="pip install 'interlock[ocr]'")


@cache
def _engine() -> Any:
    # Any: RapidOCR's parameters are untyped.
    import cv2
    from rapidocr import RapidOCR

    cv2.setNumThreads(1)
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,  # pages stand upright: a scan that does not is told by its low confidence
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            # The arena keeps the memory of the largest page; the process has an address space to stay within.
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,
        }
    )


def recognise(image: NDArray[np.uint8], page: int, *, scale: float) -> Recognised:
    """Read one page. About 5 s of CPU for a page of print.

    Args:
        image: ``(h, w, 3)`` uint8, blue green red.
        page: its number, 1-based.
        scale: pixels per unit of the page.
    """
    more_time(PAGE_SECONDS)
    result = _engine()(image)
    if result.boxes is None or not len(result.boxes):
        return Recognised([], 0.0)
    pieces: list[_Piece] = []
    for box, text in zip(result.boxes, result.txts, strict=True):
        xs, ys = [float(point[0]) / scale for point in box], [float(point[1]) / scale for point in box]
        if squeeze(text):
            pieces.append(_Piece(squeeze(text), min(xs), min(ys), max(xs), max(ys)))
    scores = [float(score) for score in result.scores]
    height = image.shape[0] / scale
    return Recognised(_lines(pieces, page, height), sum(scores) / len(scores))


def _lines(pieces: Sequence[_Piece], page: int, height: float) -> list[Line]:
    rows: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda p: (p.top + p.bottom, p.left)):
        if rows and _overlap(rows[-1][-1], piece) >= _SAME_LINE:
            rows[-1].append(piece)
        else:
            rows.append([piece])
    usual = median(piece.bottom - piece.top for piece in pieces) if pieces else 1.0
    return [_line(sorted(row, key=lambda p: p.left), page, height, usual) for row in rows]


def _overlap(one: _Piece, other: _Piece) -> float:
    shared = min(one.bottom, other.bottom) - max(one.top, other.top)
    return shared / max(min(one.bottom - one.top, other.bottom - other.top), 0.1)


def _line(row: Sequence[_Piece], page: int, height: float, usual: float) -> Line:
    line = Line(page, height)
    size = max(piece.bottom - piece.top for piece in row)
    size = usual if abs(size - usual) <= _USUAL_SIZE * usual else size
    for piece in row:
        if line.text and piece.left - line.right > _COLUMN_GAP * size:
            line.text += " | "
            line.cells += 1
        elif line.text:
            line.text += " "
        line.text += piece.text
        line.right = piece.right
    line.left, line.size = row[0].left, size * _LETTER_HEIGHT
    top, bottom = min(p.top for p in row), max(p.bottom for p in row)
    line.top, line.bottom = height - top, height - bottom
    line.places = [(0, len(line.text), Rect(page, row[0].left, top, max(p.right for p in row), bottom))]
    return line
