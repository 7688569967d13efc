"""EPUB books: the chapters of the spine, each read as HTML."""

from __future__ import annotations

import io
import posixpath
import zipfile
from typing import TYPE_CHECKING
from urllib.parse import unquote

from interlock.core.errors import InvalidInput
from interlock.knowledge.loaders._archives import check_archive, member
from interlock.knowledge.loaders._building import TextBuilder, squeeze
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.loaders._html_reading import read_html
from interlock.knowledge.loaders._xml import attribute, child_text, local, parse_xml
from interlock.knowledge.types import LoadedDocument

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["EpubLoader", "plugin"]

_PAGES = frozenset({"application/xhtml+xml", "text/html"})
_PROTECTED = "META-INF/encryption.xml"
_FONTS_ONLY = (b"obfuscation", b"font")


class EpubLoader:
    """In the order of the spine; the cover, pictures and footnotes' back links are left as the pages have them."""

    version = "epub/1"
    suffixes = frozenset({".epub"})
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        check_archive(data, name)
        builder = TextBuilder(name, "application/epub+zip")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if _PROTECTED in archive.namelist():
                rights = archive.read(_PROTECTED).lower()
                if not any(mark in rights for mark in _FONTS_ONLY):
                    raise InvalidInput(
                        f"the book {name!r} is protected against reading", param=name, code="encrypted_document"
                    )
            container = parse_xml(member(archive, "META-INF/container.xml", name), name)
            place = next((attribute(e, "full-path") for e in container.iter() if local(e) == "rootfile"), "")
            package = parse_xml(member(archive, place, name), name)
            for path in _spine(package, posixpath.dirname(place)):
                page = member(archive, path, name)
                if page.strip():
                    read_html(decode(page, name), builder)
        facts = {"author": "creator", "language": "language", "publisher": "publisher", "date": "date"}
        found = {key: squeeze(child_text(package, tag))[:1000] for key, tag in facts.items()}
        return builder.build(
            title=squeeze(child_text(package, "title")), metadata={k: v for k, v in found.items() if v}
        )


def _spine(package: Element, folder: str) -> list[str]:
    """Paths of the pages in reading order; none can leave the archive, whose members are read by name only."""
    items = {
        attribute(item, "id"): attribute(item, "href")
        for item in package.iter()
        if local(item) == "item" and attribute(item, "media-type") in _PAGES
    }
    order = [attribute(ref, "idref") for ref in package.iter() if local(ref) == "itemref"]
    hrefs = [items[key].partition("#")[0] for key in dict.fromkeys(order) if key in items]
    return [posixpath.normpath(posixpath.join(folder, unquote(href))) for href in hrefs]


plugin = EpubLoader()
