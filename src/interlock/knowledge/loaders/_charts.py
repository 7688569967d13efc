"""Charts of office files as tables: a row a category, a column a series, with the values that the file keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.knowledge.loaders._building import TextBuilder, plain_number, squeeze
from interlock.knowledge.loaders._xml import local, parse_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["add_chart", "chart_ids"]

_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}chart"
_NEWER = "{http://schemas.microsoft.com/office/drawing/2014/chartex}chart"
"""Waterfalls, treemaps, funnels and other kinds that came with Office 2016."""
_TEXT = "{http://schemas.openxmlformats.org/drawingml/2006/main}t"
_PARAGRAPH = "{http://schemas.openxmlformats.org/drawingml/2006/main}p"
_NO = frozenset({"0", "false"})
_MOST_DIGITS = 9

Points = Mapping[int, str]
"""What is shown, by place."""


# Any: an element of lxml, which ships no types.
def chart_ids(element: Any) -> list[str]:
    """Relations to the charts that stand in an element of a document or slide, in order."""
    return [found for place in element.iter(_CHART, _NEWER) if (found := place.get(_RELATION))]


def add_chart(builder: TextBuilder, blob: bytes, name: str, *, page: int | None = None) -> None:
    """Add a chart's title and its values; nothing where it keeps none.

    Args:
        blob: the chart's part.
        name: file path, for messages.

    Raises: InvalidInput: no well-formed XML.
    """
    root = parse_xml(blob, name)
    title = _words_of(_at(root, "chart", "title"))
    tables = list(_newer_tables(root) if root.tag.startswith(_NEWER[: _NEWER.index("}")]) else _tables(root))
    if title:
        builder.add("paragraph", title, page=page)
    for table in tables:
        builder.table(table, has_header=True, page=page)


@dataclass(frozen=True, slots=True)
class _Series:
    """A series with what its values stand at."""

    name: str
    at: str
    """What its categories are, or its first axis measures."""
    categories: Points
    columns: tuple[tuple[str, Points], ...]
    """Values by what they are: sizes of bubbles beside their heights."""


class _Axis(NamedTuple):
    title: str
    across: bool
    """Whether categories stand along it, or what other values are measured against."""


class _Axes(NamedTuple):
    """Titles of the axes that a group of series is drawn against."""

    across: str
    up: str


def _tables(root: Element) -> Iterator[list[list[str]]]:
    """Series that share their categories are one table."""
    area = _at(root, "chart", "plotArea")
    if area is None:
        return
    dated_from_1904 = (found := _at(root, "date1904")) is not None and found.get("val", "1") not in _NO
    titles = _axis_titles(area)
    series: list[_Series] = []
    for plot in area:
        axes = _axes(plot, titles)
        for one in _all(plot, "ser"):
            series.append(_series(one, axes, len(series) + 1, dated_from_1904))
    yield from _joined(series)


def _joined(series: Sequence[_Series]) -> Iterator[list[list[str]]]:
    groups: dict[tuple[str, tuple[tuple[int, str], ...]], list[_Series]] = {}
    for one in series:
        groups.setdefault((one.at, tuple(sorted(one.categories.items()))), []).append(one)
    for (at, _), together in groups.items():
        columns = [column for one in together for column in one.columns]
        categories = together[0].categories
        places = sorted({*categories, *(place for _, points in columns for place in points)})
        if places:
            rows = [[categories.get(p, ""), *(points.get(p, "") for _, points in columns)] for p in places]
            yield [[at, *(name for name, _ in columns)], *(row for row in rows if any(row))]


def _axis_titles(area: Element) -> Mapping[str, _Axis]:
    """By id. An axis that is not drawn shows no title."""
    found: dict[str, _Axis] = {}
    for axis in area:
        number, gone, stands = _at(axis, "axId"), _at(axis, "delete"), _at(axis, "axPos")
        if number is None or local(axis) not in {"catAx", "dateAx", "valAx"}:
            continue
        is_drawn = gone is None or gone.get("val", "1") in _NO
        # Of two axes of values, as under points, the lying one holds what the others stand at.
        across = local(axis) != "valAx" or (stands is not None and stands.get("val") in {"b", "t"})
        found[number.get("val", "")] = _Axis(_words_of(_at(axis, "title")) if is_drawn else "", across)
    return found


def _axes(plot: Element, known: Mapping[str, _Axis]) -> _Axes:
    drawn = [known[number] for one in _all(plot, "axId") if (number := one.get("val", "")) in known]
    if len(drawn) != 2:
        return _Axes("", "")
    first, second = drawn
    # Under bars that lie, both lie: the one of categories comes first.
    return _Axes(second.title, first.title) if second.across and not first.across else _Axes(first.title, second.title)


def _series(one: Element, axes: _Axes, number: int, dated_from_1904: bool) -> _Series:
    name = _words_of(_at(one, "tx")) or f"Series {number}"
    told = f"{name} ({axes.up})" if axes.up and axes.up.casefold() not in name.casefold() else name
    across = _at(one, "cat")
    if across is None:
        across = _at(one, "xVal")
    columns = [(told, _points(_at(one, tag), dated_from_1904)) for tag in ("val", "yVal")]
    columns.append((f"{name}, size", _points(_at(one, "bubbleSize"), dated_from_1904)))
    return _Series(
        name, axes.across, _points(across, dated_from_1904), tuple(column for column in columns if column[1])
    )


def _points(kept: Element | None, dated_from_1904: bool) -> Points:
    """What is kept of categories or values, as it is shown; of several levels, the outer one first."""
    if kept is None:
        return {}
    levels = [level for level in kept.iter() if local(level) == "lvl"]
    if levels:
        return _levelled([_level(level, dated_from_1904, "") for level in levels])
    shape = next((squeeze(found.text or "") for found in kept.iter() if local(found) == "formatCode"), "")
    numbers = any(local(found) in {"numCache", "numLit"} for found in kept.iter())
    return _level(kept, dated_from_1904, shape if numbers else None)


def _level(kept: Element, dated_from_1904: bool, shape: str | None) -> Points:
    """`shape`: how numbers are shown; None for text."""
    found: dict[int, str] = {}
    for point in kept.iter():
        place = point.get("idx", "")
        if local(point) != "pt" or not place.isdecimal() or len(place) > _MOST_DIGITS:
            continue
        value = squeeze("".join(v.text or "" for v in point if local(v) == "v") or (point.text or ""))
        own = point.get("formatCode") or shape
        found[int(place)] = value if own is None else _shown(value, own, dated_from_1904)
    return {place: value for place, value in found.items() if value}


def _levelled(levels: Sequence[Points]) -> Points:
    """The first level names each place; further ones name where theirs begin."""
    found = dict(levels[0])
    for level in levels[1:]:
        begun, said = sorted(level), ""
        for place in sorted(found):
            while begun and begun[0] <= place:
                said = level[begun.pop(0)]
            found[place] = f"{said} › {found[place]}" if said else found[place]
    return found


def _shown(value: str, shape: str, dated_from_1904: bool) -> str:
    try:
        number = float(value)
    except ValueError:
        return value
    from openpyxl.styles.numbers import is_date_format
    from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900, from_excel

    if shape and shape != "General" and is_date_format(shape):
        try:
            moment = from_excel(number, CALENDAR_MAC_1904 if dated_from_1904 else CALENDAR_WINDOWS_1900)
        except (ValueError, OverflowError):
            return value
        return str(moment).removesuffix(" 00:00:00")
    return plain_number(number, shape)


def _newer_tables(root: Element) -> Iterator[list[list[str]]]:
    names = {
        (found.get("val", "") if (found := _at(one, "dataId")) is not None else ""): _words_of(_at(one, "tx"))
        for one in root.iter()
        if local(one) == "series"
    }
    data = [one for one in root.iter() if local(one) == "data"]
    series: list[_Series] = []
    for number, one in enumerate(data, start=1):
        texts = [dim for dim in one if local(dim) == "strDim"]
        numbers = [dim for dim in one if local(dim) == "numDim"]
        categories: Points = {}
        for dim in texts[:1]:
            categories = _levelled([_level(level, False, None) for level in dim if local(level) == "lvl"] or [{}])
        name = names.get(one.get("id", "")) or f"Series {number}"
        columns = [
            (name, _level(level, False, level.get("formatCode") or "General"))
            for dim in numbers
            for level in dim
            if local(level) == "lvl"
        ]
        series.append(_Series(name, "", categories, tuple(columns)))
    yield from _joined(series)


def _words_of(said: Element | None) -> str:
    """A title or name: as it was typed, or as it was last read from the sheet behind the chart."""
    if said is None:
        return ""
    typed = ["".join(text.text or "" for text in line.iter(_TEXT)) for line in said.iter(_PARAGRAPH)]
    if any(typed):
        return squeeze(" ".join(typed))
    return squeeze(" ".join(found.text or "" for found in said.iter() if local(found) == "v"))


def _at(element: Element | None, *path: str) -> Element | None:
    for name in path:
        element = next((child for child in element if local(child) == name), None) if element is not None else None
    return element


def _all(element: Element, name: str) -> list[Element]:
    return [child for child in element if local(child) == name]
