"""Data as text in a prompt: escaped, so that it cannot end the place where it stands. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from interlock.prompts.types import Example, Format

__all__ = ["as_context", "as_examples", "escaped"]

_XML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
_XML_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}\Z")
# What XML 1.0 cannot hold at all, not even as a reference.
_NOT_XML = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_JSON = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_INLINE_MARKS = re.compile(r"([\\`*_\[\]<>|~])")
_LEADING_MARKS = re.compile(r"^(\s*)([#+=-])", re.MULTILINE)
_LEADING_NUMBER = re.compile(r"^(\s*\d{1,9})([.)])(?=\s|$)", re.MULTILINE)


def escaped(value: JsonValue, how: Format) -> str:
    """A value where a template names it: text stays on its place, structured values are written out whole."""
    if how == "json":
        return _json(value)
    if isinstance(value, str):
        return _xml(value) if how == "xml" else _markdown(value)
    if isinstance(value, list | dict):
        return as_context(value, how)
    return _scalar(value)


def as_context(value: JsonValue, how: Format, name: str = "") -> str:
    """A value as a block of its own.

    Args:
        name: what it is called: the element around it, the JSON field, the heading of a list.
    """
    if how == "json":
        return _json({name: value} if name else value)
    if how == "xml":
        inner = _xml_inner(value)
        return _element(name, inner) if name else inner
    lines = _markdown_lines(value)
    return "\n".join([f"**{_markdown(name)}**", "", *lines] if name else lines)


def as_examples(examples: Sequence[Example], how: Format) -> str:
    """Few-shot examples as one block; empty without any."""
    if not examples:
        return ""
    if how == "json":
        return _json([{"input": each.input, "output": each.output} for each in examples])
    if how == "xml":
        shown = (
            _element("example", f"\n<input>{_xml(each.input)}</input>\n<output>{_xml(each.output)}</output>\n")
            for each in examples
        )
        return "<examples>\n" + "\n".join(shown) + "\n</examples>"
    blocks = [
        f"### Example {number}\n\nInput:\n{_quote(each.input)}\n\nOutput:\n{_quote(each.output)}"
        for number, each in enumerate(examples, start=1)
    ]
    return "\n\n".join(blocks)


def _scalar(value: JsonValue) -> str:
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _json(value: JsonValue) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # Inside strings only: structure has none of them. A JSON text stays inside the tags that it is put between.
    for mark, code in _JSON.items():
        text = text.replace(mark, code)
    return text


def _xml(text: str) -> str:
    return "".join(_XML.get(mark, mark) for mark in _NOT_XML.sub("\ufffd", text))


def _element(name: str, inner: str) -> str:
    if _XML_NAME.match(name) and not name.lower().startswith("xml"):
        return f"<{name}>{inner}</{name}>"
    return f'<field name="{_xml(name)}">{inner}</field>'


def _xml_inner(value: JsonValue) -> str:
    if isinstance(value, Mapping):
        return "\n" + "\n".join(_element(name, _xml_inner(each)) for name, each in value.items()) + "\n"
    if isinstance(value, list):
        return "\n" + "\n".join(_element("item", _xml_inner(each)) for each in value) + "\n"
    return _xml(value) if isinstance(value, str) else _scalar(value)


def _markdown(text: str) -> str:
    marked = _INLINE_MARKS.sub(r"\\\1", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _LEADING_NUMBER.sub(r"\1\\\2", _LEADING_MARKS.sub(r"\1\\\2", marked))


def _quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in _markdown(text).split("\n"))


def _markdown_lines(value: JsonValue, indent: str = "") -> list[str]:
    if isinstance(value, list):
        if not indent and (table := _table(value)):
            return table
        return [line for each in value for line in _bullet("", each, indent)]
    if isinstance(value, Mapping):
        return [line for name, each in value.items() for line in _bullet(name, each, indent)]
    return [_markdown(value) if isinstance(value, str) else _scalar(value)]


def _bullet(name: str, value: JsonValue, indent: str) -> list[str]:
    lead = f"{indent}- " + (f"{_markdown(name)}:" if name else "")
    if isinstance(value, list | dict) and value:
        return [lead.rstrip(), *_markdown_lines(value, indent + "  ")]
    said = _markdown(value) if isinstance(value, str) else _scalar(value) if not isinstance(value, list | dict) else ""
    first, *rest = said.split("\n")
    return [f"{lead} {first}".rstrip() if name else (lead + first).rstrip(), *(f"{indent}  {line}" for line in rest)]


def _table(rows: list[JsonValue]) -> list[str]:
    """Rows of the same plain fields as a table; empty where they are not."""
    first = rows[0] if rows else None
    if len(rows) < 2 or not isinstance(first, dict) or not first:
        return []
    if any(not isinstance(row, dict) or row.keys() != first.keys() for row in rows):
        return []
    cells = [[_cell(each) for each in row.values()] for row in rows if isinstance(row, dict)]
    if any(cell is None for row in cells for cell in row):
        return []
    lines = ["| " + " | ".join(_markdown(name) for name in first) + " |", "|" + " --- |" * len(first)]
    return lines + ["| " + " | ".join(cell or "" for cell in row) + " |" for row in cells]


def _cell(value: JsonValue) -> str | None:
    if isinstance(value, list | dict):
        return None
    return _markdown(value).replace("\n", " ") if isinstance(value, str) else _scalar(value)
