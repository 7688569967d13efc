"""Which cells of a table row a question is about, so that one short fact can be told instead of the whole row."""

from __future__ import annotations

from dataclasses import replace

from interlock.knowledge.analysers import analyse
from interlock.knowledge.grounding.asks import asked_kind, holds
from interlock.knowledge.grounding.types import Cell, Evidence
from interlock.knowledge.grounding.wordmatch import WordMatcher, surfaces

__all__ = ["fact", "focused", "worded"]

_WHOLE_ROW = 3
"""A row of at most this many filled cells is told whole."""
_CLOSE = 0.75
"""Columns scoring at least this share of the best one are told with it."""
_MOST = 2


def fact(evidence: Evidence) -> str:
    """The evidence as one fact for a model to restate: ``Day pass: price is £12``."""
    if not evidence.is_row:
        return evidence.readable
    cells = [cell for cell in evidence.cells if cell.text]
    key, rest = cells[0], cells[1:]
    told = ", ".join(f"{_name(cell.column)} is {cell.text}" if cell.column else cell.text for cell in rest)
    return f"{key.text}: {told}." if told else f"{key.text}."


def worded(evidence: Evidence) -> str:
    """A row as a plain sentence: ``For Day pass, the price is £12.``"""
    cells = [cell for cell in evidence.cells if cell.text]
    told = " and ".join(f"the {_name(c.column)} is {c.text}" if c.column else c.text for c in cells[1:])
    return f"For {cells[0].text}, {told}." if told else f"{cells[0].text}."


def _name(column: str) -> str:
    plain = " ".join(column.replace("_", " ").split()).rstrip("?")
    return (
        plain
        if plain.isupper() or not plain[:1].isupper() or not plain[1:2].islower()
        else plain[0].lower() + plain[1:]
    )


def focused(question: str, evidence: Evidence, words: WordMatcher) -> Evidence:
    """The row with only its name and the cells the question is about; a sentence or a short row as it is.

    A column scores by the question's words in its name and in the cell, words of like meaning included, and by holding
    the kind of value that is asked for.
    """
    filled = [cell for cell in evidence.cells if cell.text]
    if len(filled) <= _WHOLE_ROW:
        return replace(evidence, cells=tuple(filled))
    scores = [_score(question, cell, words) for cell in filled[1:]]
    best = max(scores)
    told = sorted(range(len(scores)), key=lambda i: -scores[i])[:_MOST]
    kept = {i for i in told if scores[i] >= _CLOSE * best} if best > 0 else set(range(len(scores)))
    # What names the row beyond its first cell, when the question says it too ("Growth", "annual").
    asked = set(analyse(question))
    named = {i for i, cell in enumerate(filled[1:]) if not _numeric(cell.text) and set(analyse(cell.text)) & asked}
    return replace(evidence, cells=(filled[0], *(c for i, c in enumerate(filled[1:]) if i in kept | named)))


def _numeric(text: str) -> bool:
    return any(c.isdigit() for c in text)


def _score(question: str, cell: Cell, words: WordMatcher) -> float:
    asked = analyse(question)
    written = surfaces(question)
    label = f"{cell.column.replace('_', ' ')} {'' if _numeric(cell.text) else cell.text}"
    terms, shown = analyse(label), surfaces(label)
    exact = len(set(asked) & set(terms)) / max(1, len(set(terms)))
    near = words.nearness(list(written.values()), list(shown.values()))
    soft = float(near.max(axis=0).mean()) if near.size else 0.0
    kind = asked_kind(question)
    fits = 0.0 if kind == "other" else float(holds(kind, f"{cell.column}: {cell.text}"))
    return exact + soft + fits
