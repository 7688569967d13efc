"""Small XML answers: no document types, so no entities, and a bound on their depth by the parser."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from interlock.core.errors import InvalidInput

__all__ = ["local", "parsed"]


def parsed(data: bytes, what: str) -> ElementTree.Element:
    """The root element. Raises: InvalidInput: no XML, or XML with a document type."""
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", data[:1_000_000], re.IGNORECASE) or b"\0" in data[:1000]:
        raise InvalidInput(f"{what} is XML with a document type, which is not read", code="damaged_document")
    try:
        # Entities can only come with a document type, refused above.
        return ElementTree.fromstring(data)  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise InvalidInput(f"{what} is no XML", code="damaged_document") from error


def local(element: ElementTree.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]
