"""XML from outside: parsed without entities, without network, and walked without recursion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from interlock.core.errors import InvalidInput, TooLarge

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["attribute", "child_text", "local", "parse_xml", "walk"]

_MAX_XML_BYTES = 128 * 1024 * 1024


def parse_xml(data: bytes, name: str) -> Element:
    """The root element.

    Raises: InvalidInput: not well formed, or it declares entities; TooLarge.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    if len(data) > _MAX_XML_BYTES:
        raise TooLarge(f"the XML of {name!r} has more than {_MAX_XML_BYTES} bytes", param=name, hint="split it")
    try:
        root: Element = fromstring(data)
    except DefusedXmlException as error:
        raise InvalidInput(f"the file {name!r} declares XML entities", param=name, code="hostile_document") from error
    except (SyntaxError, ValueError, LookupError) as error:
        # ParseError is a SyntaxError; LookupError is an encoding that does not exist.
        raise InvalidInput(f"the file {name!r} is no well-formed XML", param=name, code="damaged_document") from error
    return root


def local(element: Element) -> str:
    """The tag without its namespace; empty for comments and processing instructions."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Element, name: str) -> str:
    """The first attribute of this local name, else nothing."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def walk(root: Element, *, skip: frozenset[str] = frozenset()) -> Iterator[tuple[bool, Element]]:
    """(entering, element) in document order, without recursion; what is under a tag of `skip` is left out.

    An element's own text is to be taken when it is entered, its tail when it is left.
    """
    stack: list[tuple[bool, Element]] = [(True, root)]
    while stack:
        entering, element = stack.pop()
        yield entering, element
        if not entering:
            continue
        stack.append((False, element))
        if local(element) not in skip:
            stack.extend((True, child) for child in reversed(element))


def child_text(element: Element, tag: str) -> str:
    """Text of the first descendant of this local name, else nothing."""
    return next((found.text or "" for found in element.iter() if local(found) == tag), "")
