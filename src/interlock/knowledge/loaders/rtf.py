"""Rich Text Format: headings by style, lists, tables; pictures and comments are left out."""

from __future__ import annotations

from interlock.knowledge.loaders._building import TextBuilder
from interlock.knowledge.loaders._rtf import read_rtf
from interlock.knowledge.types import LoadedDocument

__all__ = ["RtfLoader", "plugin"]


class RtfLoader:
    """Characters by the code page of the document or of the font, and by Unicode escapes."""

    version = "rtf/1"
    suffixes = frozenset({".rtf"})
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        builder = TextBuilder(name, "application/rtf")
        title = read_rtf(data, name, builder)
        return builder.build(title=title)


plugin = RtfLoader()
