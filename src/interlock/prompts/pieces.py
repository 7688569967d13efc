"""A template as what it writes, in order: stretches of text, and places where values come out. Nothing is rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from interlock.prompts.rendering import parsed
from interlock.prompts.types import PromptSpec, VariableSpec

if TYPE_CHECKING:
    from jinja2 import nodes

__all__ = [
    "Enclosed",
    "Piece",
    "Place",
    "enclosed_values",
    "free_variables",
    "is_free_text",
    "pieces_of",
    "sentences_of",
]

_TAG = re.compile(r"<(/?)([A-Za-z_][\w.-]*)(?:\s[^<>]*)?(/?)>")
_FENCE = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)
_QUOTES = ('"""', "'''", "```", '"', "'", "`", "“", "„", "«")
_CLOSING = {"“": "”", "„": "“", "«": "»"}
_DEEPEST = 8
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?]?")


class Place(NamedTuple):
    """A line of one of the prompt's texts."""

    text: str
    """``system``, ``variant NAME``, or a partial's name."""
    line: int
    """From 1, in that text without its head."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text, or a value."""

    place: Place
    text: str
    """Empty for a value."""
    names: frozenset[str] = frozenset()
    """Names from outside that a value is made of."""
    filters: frozenset[str] = frozenset()
    named: bool = False
    """A value that ``context("name")`` puts into an element of its own."""
    sometimes: bool = False
    """It stands in a branch or a loop."""


@dataclass(slots=True)
class _Reading:
    """One walk over a template."""

    spec: PromptSpec
    text: str
    depth: int = 0
    known: dict[str, frozenset[str]] = field(default_factory=dict)
    """Names that the template sets itself, by what they are made of."""

    def walk(self, tree: nodes.Node, *, sometimes: bool) -> Iterator[Piece]:
        from jinja2 import nodes

        for node in tree.iter_child_nodes():
            if isinstance(node, nodes.Output):
                yield from self._output(node, sometimes=sometimes)
            elif isinstance(node, nodes.Include):
                yield from self._included(node, sometimes=sometimes)
            elif isinstance(node, nodes.Assign | nodes.AssignBlock):
                self._assigned(node)
            elif isinstance(node, nodes.For):
                made = self._names(node.iter)
                self.known.update({name.name: made for name in node.find_all(nodes.Name) if name.ctx == "store"})
                yield from self.walk(node, sometimes=True)
            elif isinstance(node, nodes.Stmt):
                branch = isinstance(node, nodes.If | nodes.Macro | nodes.CallBlock)
                yield from self.walk(node, sometimes=sometimes or branch)

    def _output(self, node: nodes.Output, *, sometimes: bool) -> Iterator[Piece]:
        from jinja2 import nodes

        for each in node.nodes:
            place = Place(self.text, each.lineno)
            if isinstance(each, nodes.TemplateData):
                yield Piece(place, each.data, sometimes=sometimes)
                continue
            filters = list(each.find_all(nodes.Filter))
            filters += [each] if isinstance(each, nodes.Filter) else []
            named = any(found.name == "context" and found.args for found in filters)
            yield Piece(
                place, "", self._names(each), frozenset(found.name for found in filters), named, sometimes=sometimes
            )

    def _included(self, node: nodes.Include, *, sometimes: bool) -> Iterator[Piece]:
        from jinja2 import nodes

        name = node.template.value if isinstance(node.template, nodes.Const) else None
        source = self.spec.partials.get(str(name))
        if source is None or self.depth > _DEEPEST:
            return
        inner = _Reading(self.spec, str(name), self.depth + 1, self.known)
        yield from inner.walk(parsed(self.spec, source), sometimes=sometimes)

    def _assigned(self, node: nodes.Assign | nodes.AssignBlock) -> None:
        from jinja2 import nodes

        targets = [name.name for name in node.find_all(nodes.Name) if name.ctx == "store"]
        if isinstance(node.target, nodes.Name):
            targets.append(node.target.name)
        made = self._names(node)
        self.known.update({name: made - {name} for name in targets})

    def _names(self, node: nodes.Node) -> frozenset[str]:
        from jinja2 import nodes

        found = {each.name for each in node.find_all(nodes.Name) if each.ctx == "load"}
        if isinstance(node, nodes.Name) and node.ctx == "load":
            found.add(node.name)
        return frozenset(made for name in found for made in self.known.get(name, frozenset({name})))


def pieces_of(spec: PromptSpec, text: str, source: str) -> Sequence[Piece]:
    """What a template writes, its partials in their places.

    Args:
        text: what it is called.

    Raises: InvalidInput: it has a mistake.
    """
    return list(_Reading(spec, text).walk(parsed(spec, source), sometimes=False))


class Enclosed(NamedTuple):
    """A value, and what says where it begins and ends."""

    piece: Piece
    by: str
    """``element``, ``fence``, a quotation mark; empty where nothing does."""


def enclosed_values(pieces: Sequence[Piece]) -> Iterator[Enclosed]:
    """Every value with the nearest mark that stands around it."""
    opened: list[str] = []
    fence = ""
    for at, piece in enumerate(pieces):
        if piece.text:
            opened, fence = _after(piece.text, opened, fence)
            continue
        before = pieces[at - 1].text if at else ""
        behind = pieces[at + 1].text if at + 1 < len(pieces) else ""
        yield Enclosed(piece, _quote(before, behind) or ("fence" if fence else "element" if opened else ""))


def _after(text: str, opened: Sequence[str], fence: str) -> tuple[list[str], str]:
    found = list(opened)
    for closes, name, alone in _TAG.findall(text):
        if closes and name in found:
            while found.pop() != name:
                pass
        elif not closes and not alone:
            found.append(name)
    for mark in _FENCE.findall(text):
        fence = mark if not fence else "" if mark == fence else fence
    return found, fence


def _quote(before: str, behind: str) -> str:
    for mark in _QUOTES:
        closing = _CLOSING.get(mark, mark)
        if before.rstrip(" \n").endswith(mark) and behind.lstrip(" \n").startswith(closing):
            # A fence of its own line is told as one.
            return "fence" if mark == "```" else mark
    return ""


def is_free_text(spec: VariableSpec) -> bool:
    """Whether a caller can write words of its own into it."""
    if spec.type == "string":
        return True
    if spec.type == "list":
        return spec.items is None or is_free_text(spec.items)
    if spec.type == "object":
        return not spec.properties or any(is_free_text(each) for each in spec.properties.values())
    return False


def sentences_of(pieces: Sequence[Piece], *, always: bool = False) -> Iterator[tuple[str, Place]]:
    """Sentences of the text, values as ``…``.

    Args:
        always: only what stands in no branch.
    """
    texts: dict[str, list[Piece]] = {}
    for piece in pieces:
        if not (always and piece.sometimes):
            texts.setdefault(piece.place.text, []).append(piece)
    for name, parts in texts.items():
        whole, lines = "", list[int]()
        for part in parts:
            said = part.text or "…"
            line = part.place.line
            for mark in said:
                lines.append(line)
                line += mark == "\n"
            whole += said
        for match in _SENTENCE.finditer(whole):
            said = match[0].strip(" \t-*#>")
            if said:
                skipped = len(match[0]) - len(match[0].lstrip(" \t-*#>"))
                yield said, Place(name, lines[min(match.start() + skipped, len(lines) - 1)])


def free_variables(declared: Mapping[str, VariableSpec]) -> frozenset[str]:
    """Names of variables into which callers can write words of their own."""
    return frozenset(name for name, spec in declared.items() if is_free_text(spec))
