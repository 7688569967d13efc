"""Jupyter notebooks: text cells as Markdown, code cells as code, what they printed as code."""

from __future__ import annotations

import json
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.knowledge.loaders._building import TextBuilder
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.loaders._markdown_reading import read_markdown
from interlock.knowledge.types import LoadedDocument

__all__ = ["NotebookLoader", "plugin"]

_MAX_OUTPUT = 4_000
"""Characters of one output; logs of a training are no documentation."""


class NotebookLoader:
    """Formats 3 and 4. Pictures and widgets are left out; an error is kept by its name."""

    version = "notebook/1"
    suffixes = frozenset({".ipynb"})
    isolated = False

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        try:
            content = json.loads(decode(data, name))
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"the file {name!r} is no JSON", param=name, code="damaged_document") from error
        cells = _cells(content)
        if cells is None:
            raise InvalidInput(f"the file {name!r} is no notebook", param=name, code="damaged_document")
        builder = TextBuilder(name, "application/x-ipynb+json")
        for cell in cells:
            _add_cell(builder, cell)
        language = _at(_at(content, "metadata"), "kernelspec", "language")
        return builder.build(metadata={"language": language[:100]} if isinstance(language, str) and language else {})


# Any: JSON of any shape; every look into it goes through `_at`.
def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _cells(content: Any) -> list[Any] | None:
    cells = _at(content, "cells")
    if isinstance(cells, list):
        return cells
    sheets = _at(content, "worksheets")  # format 3
    if not isinstance(sheets, list):
        return None
    return [cell for sheet in sheets if isinstance(found := _at(sheet, "cells"), list) for cell in found]


def _source(value: Any) -> str:
    """A text, which notebooks store whole or as a list of lines."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def _add_cell(builder: TextBuilder, cell: Any) -> None:
    kind = _at(cell, "cell_type")
    text = _source(_at(cell, "source") or _at(cell, "input"))
    if kind == "markdown":
        read_markdown(text, builder)
    elif kind == "heading":
        level = _at(cell, "level")
        builder.heading(text, level if isinstance(level, int) and 1 <= level <= 6 else 1)
    elif kind == "code":
        builder.add("code", text)
        outputs = _at(cell, "outputs")
        for output in outputs if isinstance(outputs, list) else ():
            builder.add("code", _output(output)[:_MAX_OUTPUT])
    elif kind == "raw":
        builder.add("paragraph", text)


def _output(output: Any) -> str:
    if _at(output, "output_type") in {"error", "pyerr"}:
        return f"{_at(output, 'ename') or 'error'}: {_at(output, 'evalue') or ''}"
    return _source(_at(output, "text") or _at(output, "data", "text/plain"))


plugin = NotebookLoader()
