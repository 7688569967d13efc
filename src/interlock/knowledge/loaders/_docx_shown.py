"""A Word document as people see it: changes accepted; controls, text boxes and notes among its paragraphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from interlock.knowledge.loaders._mathematics import FORMULAS, linear

__all__ = ["as_shown", "has_unseen"]

# Any in this module: python-docx and lxml ship no types.
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_GONE = (f"{_W}del", f"{_W}moveFrom", f"{_MC}Fallback")
_AROUND = tuple(f"{_W}{name}" for name in ("ins", "moveTo", "smartTag", "customXml", "fldSimple", "sdt", "dir", "bdo"))
_AROUND += (f"{_MC}AlternateContent", f"{_MC}Choice", f"{_W}sdtContent")
_NOTES = {f"{_W}footnoteReference": ("footnotes", "footnote"), f"{_W}endnoteReference": ("endnotes", "endnote")}
_NO = frozenset({"0", "false", "off"})
_PAPER = frozenset({"FFFFFF", "FEFEFE"})
_NO_SHADE = frozenset({"auto", *_PAPER})
_SMALLEST = 4
"""Half points; what is smaller nobody reads."""


def as_shown(document: Any) -> None:
    """Change an open document in place. Deleted and hidden text and the table of contents go."""
    body = document.element.body
    _take_notes(document, body)
    for element in list(body.iter(*_GONE)):
        _remove(element)
    for control in list(body.iter(f"{_W}sdt")):
        if any(kind.get(f"{_W}val") == "Table of Contents" for kind in control.iter(f"{_W}docPartGallery")):
            _remove(control)
    for element in list(body.iter(*_AROUND)):
        _unwrap(element)
    _take_boxes(body)
    _take_formulas(body)
    _drop_hidden(document, body)


def _remove(element: Any) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _unwrap(element: Any) -> None:
    """Put what stands in an element into its place; properties of a control are no content."""
    parent = element.getparent()
    if parent is None:
        return
    place = parent.index(element)
    inner = [
        child for child in element if not str(child.tag).endswith(("sdtPr", "sdtEndPr", "smartTagPr", "customXmlPr"))
    ]
    parent[place : place + 1] = inner


def _take_notes(document: Any, body: Any) -> None:
    """Footnotes and endnotes become paragraphs after the one that refers to them, each once."""
    known: dict[str, dict[str, Any]] = {}
    last: dict[Any, Any] = {}
    for reference in list(body.iter(*_NOTES)):
        part, tag = _NOTES[reference.tag]
        if part not in known:
            known[part] = {note.get(f"{_W}id"): note for note in _notes_of(document, part, tag)}
        note = known[part].pop(reference.get(f"{_W}id"), None)
        anchor = next(reference.iterancestors(f"{_W}p"), None)
        if note is not None and anchor is not None:
            _put_after(anchor, list(note), last)


def _notes_of(document: Any, part: str, tag: str) -> Iterator[Any]:
    from docx.oxml import parse_xml

    for rel in document.part.rels.values():
        if not rel.is_external and str(rel.reltype).endswith(f"/{part}"):
            yield from parse_xml(rel.target_part.blob).iter(f"{_W}{tag}")


def _take_boxes(body: Any) -> None:
    """What stands in a text box follows the paragraph that the box hangs on."""
    last: dict[Any, Any] = {}
    for box in list(body.iter(f"{_W}txbxContent")):
        anchor = next(box.iterancestors(f"{_W}p"), None)
        if anchor is not None:
            _put_after(anchor, list(box), last)


def _take_formulas(body: Any) -> None:
    """Formulas become runs of text in their places, as the library reads runs alone."""
    for formula in list(body.iter(*FORMULAS)):
        parent = formula.getparent()
        if parent is None or any(above.tag in FORMULAS for above in formula.iterancestors()):
            continue
        run = parent.makeelement(f"{_W}r", {})
        text = run.makeelement(f"{_W}t", {})
        text.text = linear(formula)
        run.append(text)
        parent.replace(formula, run)


def _put_after(anchor: Any, elements: list[Any], last: dict[Any, Any]) -> None:
    """`last`: what was put after an anchor before, which comes first."""
    for element in elements:
        last.get(anchor, anchor).addnext(element)
        last[anchor] = element


def _drop_hidden(document: Any, body: Any) -> None:
    """Take out what Word does not show: nobody who reads the document knows that it is there."""
    styles = _hidden_styles(document)
    for run in list(body.iter(f"{_W}r")):
        properties = run.find(f"{_W}rPr")
        own = _vanishes(properties)
        if own is None and not styles:
            continue
        named = _style(properties, "rStyle") in styles
        paragraph = next(run.iterancestors(f"{_W}p"), None)
        around = None if paragraph is None else paragraph.find(f"{_W}pPr")
        if own or (own is None and (named or _style(around, "pStyle") in styles)):
            _remove(run)


def _vanishes(properties: Any) -> bool | None:
    hidden = None if properties is None else properties.find(f"{_W}vanish")
    return None if hidden is None else hidden.get(f"{_W}val", "true") not in _NO


def _style(properties: Any, tag: str) -> str:
    found = None if properties is None else properties.find(f"{_W}{tag}")
    return "" if found is None else str(found.get(f"{_W}val"))


def _hidden_styles(document: Any) -> frozenset[str]:
    """Ids of styles whose text is not shown, by themselves or by what they are based on."""
    own: dict[str, bool | None] = {}
    based: dict[str, str] = {}
    for style in document.styles.element.iter(f"{_W}style"):
        name = str(style.get(f"{_W}styleId"))
        own[name] = _vanishes(style.find(f"{_W}rPr"))
        based[name] = _style(style, "basedOn")
    hidden: set[str] = set()
    for name in own:
        at, seen = name, set[str]()
        while at in own and own[at] is None and at not in seen:
            seen.add(at)
            at = based[at]
        if own.get(at):
            hidden.add(name)
    return frozenset(hidden)


def has_unseen(document: Any) -> bool:
    """Whether text has the colour of the paper, or no size. What a style says is not looked at."""
    return any(_is_unseen(run) for run in document.element.body.iter(f"{_W}r"))


def _is_unseen(run: Any) -> bool:
    properties = run.find(f"{_W}rPr")
    if properties is None or not any((text.text or "").strip() for text in run.iter(f"{_W}t")):
        return False
    size = _style(properties, "sz")
    if size.isdecimal() and int(size) < _SMALLEST:
        return True
    return _style(properties, "color").upper() in _PAPER and not _is_shaded(run)


def _is_shaded(run: Any) -> bool:
    for element in (run, *run.iterancestors(f"{_W}p", f"{_W}tc", f"{_W}tbl")):
        kind = str(element.tag).rpartition("}")[2]
        properties = element.find(f"{_W}{kind}Pr")
        if properties is None:
            continue
        shade = properties.find(f"{_W}shd")
        if shade is not None and str(shade.get(f"{_W}fill", "auto")) not in _NO_SHADE:
            return True
        if properties.find(f"{_W}highlight") is not None or (kind == "tbl" and _style(properties, "tblStyle")):
            # The style of a table may shade its rows.
            return True
    return False
