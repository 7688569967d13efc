"""HTML: the main content without navigation, scripts and hidden parts; tables as rows that know their header."""

from __future__ import annotations

from interlock.core.errors import InvalidInput
from interlock.knowledge.loaders._building import TextBuilder
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.loaders._html_reading import read_html
from interlock.knowledge.types import LoadedDocument

__all__ = ["HtmlLoader", "plugin"]


class HtmlLoader:
    """Reads ``<main>``, else the only ``<article>``, else the body."""

    version = "html/2"
    suffixes = frozenset({".html", ".htm", ".xhtml"})
    isolated = False

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        builder = TextBuilder(name, "text/html")
        facts = read_html(decode(data, name), builder)
        if builder.is_empty:
            raise InvalidInput(f"the file {name!r} has no text", param=name, code="empty_document")
        return builder.build(title=facts.title, metadata=facts.metadata)


plugin = HtmlLoader()
