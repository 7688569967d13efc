"""PowerPoint decks: a slide is a page, its title a heading; text, lists, tables, charts and speaker notes in order."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders._archives import OLE, check_archive
from interlock.knowledge.loaders._building import TextBuilder, looks_like_header, squeeze
from interlock.knowledge.loaders._charts import add_chart, chart_ids
from interlock.knowledge.loaders._mathematics import linear
from interlock.knowledge.types import LoadedDocument

__all__ = ["PptxLoader", "plugin"]

_SLIDES = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_FORMULA = "{http://schemas.microsoft.com/office/drawing/2010/main}m"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_POINT = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}t"
_MAX_SLIDES = 2_000
_MAX_DEPTH = 20
_LINE = 91_440
"""Shapes whose tops differ by less (a tenth of an inch, in English Metric Units) stand in one line."""


class PptxLoader:
    """Slides in order; hidden slides and shapes, masters, comments and pictures are left out."""

    version = "pptx/4"
    suffixes = frozenset({".pptx", ".pptm"})
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        if data.startswith(OLE):
            raise InvalidInput(
                f"the file {name!r} is encrypted or an old .ppt",
                param=name,
                code="encrypted_document",
                hint="save it as .pptx without password",
            )
        check_archive(data, name)
        deck = _open(data, name)
        builder = TextBuilder(name, _SLIDES)
        try:
            slides = list(deck.slides)
            if len(slides) > _MAX_SLIDES:
                raise TooLarge(f"the file {name!r} has more than {_MAX_SLIDES} slides", param=name, hint="split it")
            for number, slide in enumerate(slides, start=1):
                if slide.element.get("show") != "0":
                    _add_slide(builder, slide, number, name)
            title = squeeze(deck.core_properties.title or "")
            author = squeeze(deck.core_properties.author or "")[:1000]
        except InvalidInput:
            raise
        except Exception as error:
            # A crafted deck trips over the library in many ways.
            raise InvalidInput(f"the file {name!r} is damaged", param=name, code="damaged_document") from error
        # Templates leave their own name in the properties of every deck made from them.
        named = "" if title.lower() in {"powerpoint presentation", "presentation"} else title
        return builder.build(title=named, metadata={"author": author} if author else {}, pages=len(slides))


# Any: python-pptx ships no types.
def _open(data: bytes, name: str) -> Any:
    from pptx import Presentation

    try:
        return Presentation(io.BytesIO(data))
    except Exception as error:
        # lxml, KeyError, ValueError: whatever a crafted package trips over first.
        raise InvalidInput(f"the file {name!r} is no PowerPoint deck", param=name, code="damaged_document") from error


def _add_slide(builder: TextBuilder, slide: Any, page: int, name: str) -> None:
    _choose(slide)
    title = slide.shapes.title
    heading = squeeze(title.text_frame.text) if title is not None and title.has_text_frame else ""
    shapes = [s for s in _in_order(slide.shapes) if title is None or s.shape_id != title.shape_id]
    notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
    if (
        not heading
        and notes is None
        and not any(s.has_text_frame or getattr(s, "has_table", False) or _drawn_texts(s) or _charts(s) for s in shapes)
    ):
        return  # a picture
    builder.heading(heading or f"Slide {page}", 1, page=page)
    for shape in shapes:
        if getattr(shape, "has_table", False):
            rows = [[squeeze(cell.text) for cell in row.cells] for row in shape.table.rows]
            header = bool(shape.table.first_row) and looks_like_header(rows)
            builder.table([row for row in rows if any(row)], has_header=header, page=page)
        elif shape.has_text_frame:
            _add_text(builder, shape, page)
        else:
            for text in _drawn_texts(shape):
                builder.add("list", text, page=page)
            for chart in _charts(shape):
                add_chart(builder, chart, name, page=page)
    for paragraph in notes.text.splitlines() if notes is not None else ():
        builder.add("paragraph", squeeze(paragraph), page=page)


def _choose(slide: Any) -> None:
    """Take of shapes that are written in two ways, for newer programs and older ones, the newer; formulas as text."""
    for ways in list(slide.element.iter(f"{_MC}AlternateContent")):
        chosen = next(ways.iterchildren(f"{_MC}Choice"), None)
        parent = ways.getparent()
        place = parent.index(ways)
        parent[place : place + 1] = [] if chosen is None else list(chosen)
    for formula in list(slide.element.iter(_FORMULA)):
        run = formula.makeelement(f"{_A}r", {})
        text = run.makeelement(f"{_A}t", {})
        text.text = linear(formula)
        run.append(text)
        formula.getparent().replace(formula, run)


def _charts(shape: Any) -> list[bytes]:
    return [shape.part.related_part(number).blob for number in chart_ids(shape.element)]


def _drawn_texts(shape: Any) -> list[str]:
    """What stands in a diagram (SmartArt), whose texts are in a part of their own."""
    from pptx.oxml import parse_xml
    from pptx.oxml.ns import qn

    texts: list[str] = []
    for place in shape.element.iter(_DIAGRAM):
        part = shape.part.related_part(place.get(qn("r:dm")))
        for point in parse_xml(part.blob).iter(_POINT):
            texts += [
                squeeze("".join(run.text or "" for run in line.iter(qn("a:t")))) for line in point.iter(qn("a:p"))
            ]
    return [text for text in texts if text]


def _in_order(shapes: Any, depth: int = 0) -> Iterator[Any]:
    """Leaves from top to bottom, then left to right; the order of drawing says nothing."""
    leaves = sorted(shapes, key=lambda shape: ((shape.top or 0) // _LINE, shape.left or 0))
    for shape in leaves:
        if _is_off(shape):
            continue
        if hasattr(shape, "shapes"):
            if depth < _MAX_DEPTH:
                yield from _in_order(shape.shapes, depth + 1)
        else:
            yield shape


def _is_off(shape: Any) -> bool:
    """Whether somebody switched a shape off: it is on no screen and no print."""
    named = next(shape.element.iter(f"{_P}cNvPr"), None)
    return named is not None and named.get("hidden") in {"1", "true"}


def _add_text(builder: TextBuilder, shape: Any, page: int) -> None:
    texts = [squeeze(paragraph.text) for paragraph in shape.text_frame.paragraphs]
    # In an outline placeholder every paragraph is a bullet; a free text box is prose.
    listed = bool(shape.is_placeholder) and len([text for text in texts if text]) > 1
    for text in texts:
        builder.add("list" if listed else "paragraph", text, page=page)


plugin = PptxLoader()
