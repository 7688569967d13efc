"""Source code by symbol: the text is the file's own, headings are the qualified name, ``Parser › load``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from interlock.core.errors import InvalidInput, TooLarge
from interlock.core.passages import Span
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.loaders._grammars import BY_SUFFIX, GRAMMARS
from interlock.knowledge.types import Block, LoadedDocument

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

__all__ = ["CodeLoader", "plugin"]

_MAX_BYTES = 4 * 1024 * 1024
_MAX_SYMBOLS = 50_000
_MAX_DEPTH = 12
"""Levels between a symbol and the next one inside it (blocks, conditions, exports)."""
_MAX_NAME = 200
_COMMENTS = frozenset({"comment", "line_comment", "block_comment", "attribute_item", "decorator", "attribute_list"})
_IDENTIFIERS = frozenset(
    {
        "constant",
        "destructor_name",
        "field_identifier",
        "identifier",
        "name",
        "object_reference",
        "operator_name",
        "property_identifier",
        "qualified_identifier",
        "scope_resolution",
        "simple_identifier",
        "type_identifier",
        "word",
    }
)
_FUNCTION_VALUES = frozenset({"arrow_function", "function_expression", "function", "generator_function", "class"})
_SHEBANGS = (("python", "python"), ("node", "javascript"), ("ruby", "ruby"), ("php", "php"), ("sh", "shell"))
_CLOSING = re.compile(r"(?:\W|\bend\b)*")


class _Symbol(NamedTuple):
    """A named piece of the file, in bytes."""

    start: int
    end: int
    path: tuple[str, ...]


class CodeLoader:
    """Comments before a symbol, its decorators and its docstring stay with it.

    A file that does not parse is still read: what the grammar cannot place belongs to the symbol around it.
    """

    version = "code/1"
    suffixes = frozenset(BY_SUFFIX)
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        if len(data) > _MAX_BYTES:
            raise TooLarge(
                f"the source file {name!r} has more than {_MAX_BYTES} bytes (generated?)",
                param=name,
                hint="leave it out",
            )
        text = decode(data, name)
        language = BY_SUFFIX.get(PurePosixPath(name).suffix.lower(), "") or _by_first_line(text)
        blocks = tuple(_blocks(text, language))
        if not blocks:
            raise InvalidInput(f"the file {name!r} has no text", param=name, code="empty_document")
        facts = {"language": language} if language else {}
        return LoadedDocument(text, blocks, PurePosixPath(name).name, "text/x-source", facts)


def _by_first_line(text: str) -> str:
    """Language of a script without suffix."""
    first = text.partition("\n")[0]
    return next((language for mark, language in _SHEBANGS if first.startswith("#!") and mark in first), "")


@lru_cache(maxsize=32)
def _parser(language: str) -> Parser:
    import importlib

    from tree_sitter import Language, Parser

    grammar = GRAMMARS[language]
    module = importlib.import_module(grammar.module)
    return Parser(Language(getattr(module, grammar.function)()))


def _blocks(text: str, language: str) -> Iterator[Block]:
    encoded = text.encode()
    symbols = _symbols(encoded, language) if language else []
    held: Block | None = None
    for start, end, path in _pieces(len(encoded), symbols, encoded):
        piece = text[start:end]
        left = start + len(piece) - len(piece.lstrip("\n \t"))
        # Indentation belongs to the first line of a symbol.
        left = max(start, text.rfind("\n", start, left) + 1)
        right = start + len(piece.rstrip())
        if right <= left:
            continue
        if held is not None and (held.headings == path or _CLOSING.fullmatch(text[left:right])):
            # A closing brace alone says nothing: it stays with what it closes.
            held = Block("code", Span(held.span.start, right), held.headings)
            continue
        if held is not None:
            yield held
        held = Block("code", Span(left, right), path)
    if held is not None:
        yield held


def _pieces(length: int, symbols: list[_Symbol], encoded: bytes) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """(start, end, qualified name) in characters, covering the file; a place belongs to the innermost symbol there."""
    edges = sorted({0, length, *(s.start for s in symbols), *(s.end for s in symbols)})
    starts: dict[int, list[_Symbol]] = {}
    for symbol in symbols:
        starts.setdefault(symbol.start, []).append(symbol)
    open_symbols: list[_Symbol] = []
    position = 0
    for start, end in pairwise(edges):
        while open_symbols and open_symbols[-1].end <= start:
            open_symbols.pop()
        open_symbols.extend(sorted(starts.get(start, ()), key=lambda s: -s.end))
        characters = len(encoded[start:end].decode("utf-8", "replace"))
        yield position, position + characters, open_symbols[-1].path if open_symbols else ()
        position += characters


def _symbols(encoded: bytes, language: str) -> list[_Symbol]:
    """Symbols in the order of the file; each lies inside its parent or beside its siblings."""
    grammar = GRAMMARS[language]
    found: list[_Symbol] = []
    root = _parser(language).parse(encoded).root_node
    # (node, qualified name so far, levels since the last symbol, where the symbol around it starts)
    stack: list[tuple[Node, tuple[str, ...], int, int]] = [(root, (), 0, 0)]
    while stack:
        node, path, depth, floor = stack.pop()
        previous_end = floor
        inner: list[tuple[Node, tuple[str, ...], int, int]] = []
        for child in node.children:
            holder = child.type in grammar.holders
            name = _name(child) if holder or child.type in grammar.leaves else _assigned(child)
            if name and child.is_named:
                own = (*path, *_receiver(child), name[:_MAX_NAME])
                start = max(_with_comments(child, encoded), previous_end)
                previous_end = child.end_byte + (encoded[child.end_byte : child.end_byte + 1] == b";")
                found.append(_Symbol(start, previous_end, own))
                if len(found) >= _MAX_SYMBOLS:
                    return found
                if holder:
                    inner.append((child, own, 0, child.start_byte))
            elif child.child_count and depth < _MAX_DEPTH and child.type not in grammar.leaves:
                inner.append((child, path, depth + 1, previous_end))
        stack.extend(reversed(inner))
    return _nested(found)


def _nested(found: list[_Symbol]) -> list[_Symbol]:
    """Without symbols that cross another one's end, which an odd tree of a broken file could give."""
    kept: list[_Symbol] = []
    open_ends: list[int] = []
    for symbol in sorted(found, key=lambda s: (s.start, -s.end)):
        while open_ends and open_ends[-1] <= symbol.start:
            open_ends.pop()
        if open_ends and symbol.end > open_ends[-1]:
            continue
        open_ends.append(symbol.end)
        kept.append(symbol)
    return kept


def _with_comments(node: Node, encoded: bytes) -> int:
    """Where a symbol starts: at the comments and attributes right above it, or at the statement it is declared by."""
    while (
        node.parent is not None
        and node.parent.start_byte >= node.start_byte - 200
        and node.parent.type
        in {
            "decorated_definition",
            "export_statement",
            "lexical_declaration",
            "variable_declaration",
            "template_declaration",
        }
    ):
        node = node.parent
    start = node.start_byte
    before = node.prev_sibling
    while before is not None and before.type in _COMMENTS and encoded[before.end_byte : start].count(b"\n") <= 1:
        line = encoded.rfind(b"\n", 0, before.start_byte) + 1
        if encoded[line : before.start_byte].strip():
            break  # it ends a line of code, so it speaks of that line
        start = before.start_byte
        before = before.prev_sibling
    return start


def _name(node: Node) -> str:
    """Name of a declaration, wherever its grammar keeps it."""
    if node.type == "impl_item":
        kind, trait = node.child_by_field_name("type"), node.child_by_field_name("trait")
        return f"{_text(trait)} for {_text(kind)}" if trait is not None else _text(kind)
    if node.type == "type_declaration":
        node = next((child for child in node.named_children if child.type in {"type_spec", "type_alias"}), node)
    if (
        node.type in {"struct_specifier", "union_specifier", "enum_specifier"}
        and node.child_by_field_name("body") is None
    ):
        return ""  # a use of the type
    found = node.child_by_field_name("name")
    if found is None:
        found = _declared(node)
    if found is None:
        found = next((child for child in node.named_children if child.type in _IDENTIFIERS), None)
    if found is None and node.type in {"init_declaration", "constructor_declaration"}:
        return "init"
    return _text(found)


def _declared(node: Node) -> Node | None:
    """The identifier inside C's declarators: ``int *(*f)(void)``."""
    at = node.child_by_field_name("declarator")
    for _ in range(10):
        if at is None or at.type in _IDENTIFIERS:
            return at
        at = at.child_by_field_name("declarator") or next(
            (child for child in at.named_children if child.type in _IDENTIFIERS or "declarator" in child.type), None
        )
    return None


def _assigned(node: Node) -> str:
    """Name of a function that is the value of a constant: ``const load = async () => …``."""
    if node.type != "variable_declarator":
        return ""
    value = node.child_by_field_name("value")
    return _text(node.child_by_field_name("name")) if value is not None and value.type in _FUNCTION_VALUES else ""


def _receiver(node: Node) -> tuple[str, ...]:
    """Type a Go method belongs to."""
    receiver = node.child_by_field_name("receiver") if node.type == "method_declaration" else None
    if receiver is None:
        return ()
    stack = list(receiver.named_children)
    while stack:
        part = stack.pop(0)
        if part.type == "type_identifier":
            return (_text(part),)
        stack.extend(part.named_children)
    return ()


def _text(node: Node | None) -> str:
    return " ".join(node.text.decode("utf-8", "replace").split()) if node is not None and node.text else ""


plugin = CodeLoader()
