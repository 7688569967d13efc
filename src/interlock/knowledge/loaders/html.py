"""HTML: the main content without navigation, scripts and hidden parts; tables as rows that know their header."""

from __future__ import annotations

import re

from interlock.core.errors import InvalidInput
from interlock.knowledge.loaders._building import TextBuilder
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.loaders._html_reading import read_html
from interlock.knowledge.types import LoadedDocument

__all__ = ["HtmlLoader", "plugin"]

_CHARSET = re.compile(
    rb"<(?:meta|\?xml)\b[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE
)
_HEAD = 4096
"""Bytes in which it is looked for; browsers look at 1,024."""


class HtmlLoader:
    """Reads ``<main>``, else the only ``<article>``, else the body."""

    version = "html/3"
    suffixes = frozenset({".html", ".htm", ".xhtml"})
    isolated = False

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        builder = TextBuilder(name, "text/html")
        facts = read_html(decode(data, name, declared=_declared(data)), builder)
        if builder.is_empty:
            raise InvalidInput(f"the file {name!r} has no text", param=name, code="empty_document")
        return builder.build(title=facts.title, metadata=facts.metadata)


def _declared(data: bytes) -> str:
    """The encoding that a page names in its head; empty when it names none."""
    found = _CHARSET.search(data[:_HEAD])
    return found.group(1).decode("ascii") if found else ""


plugin = HtmlLoader()
