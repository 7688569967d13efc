"""The support check of a table row: it is named, its values are whole, each number stands under its own column."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from interlock.knowledge.grounding.facts import Token, tokens
from interlock.knowledge.grounding.types import Cell, Evidence, Reason, Verdict

__all__ = ["check_row"]

_MARKERS = re.compile(r"\s*\[\d+\]")
_REASONS: dict[str, Reason] = {
    "number": "number",
    "negation": "negation",
    "modality": "modality",
    "bound": "bound",
    "condition": "condition",
    "name": "name",
    "word": "foreign",
}
_CONTENT = frozenset({"word", "name", "number"})


def _squeezed(text: str) -> str:
    return " ".join(text.split()).strip(" .").casefold()


def check_row(claim: str, evidence: Evidence) -> Verdict:
    """A row: every value comes from a cell, under its own column, together with what names the row."""
    said = _MARKERS.sub("", claim).strip()
    if _squeezed(said) in {_squeezed(evidence.text), _squeezed(evidence.readable)}:
        return Verdict(True, 1.0, "ok")
    spoken = tokens(said)
    if not any(t.kind in _CONTENT for t in spoken):
        return Verdict(False, 0.0, "empty")
    # A technical column name ("price_gbp") is told as words.
    cells = [replace(cell, column=cell.column.replace("_", " ")) for cell in evidence.cells if cell.text]
    columns = {t.key for cell in cells for t in tokens(cell.column)}
    lent = columns | {t.key for t in tokens(evidence.heading) if t.kind in {"word", "name"}}
    pool = Counter((_plain(t.kind), t.key) for cell in cells for t in tokens(cell.text) if t.kind != "function")
    for token in spoken:
        if token.kind == "function":
            continue
        if pool[(_plain(token.kind), token.key)] > 0:
            pool[(_plain(token.kind), token.key)] -= 1
        elif token.kind == "number" or token.key not in lent:
            return Verdict(False, 0.0, _REASONS[token.kind])
    reason = _row_reason(evidence.heading, cells, spoken)
    if reason:
        return Verdict(False, 0.0, reason)
    kept = sum(_touched(cell, _keys(spoken)) for cell in cells)
    return Verdict(True, round(0.6 + 0.4 * kept / len(cells), 4), "ok")


def _plain(kind: str) -> str:
    return "word" if kind == "name" else kind


def _keys(found: Sequence[Token]) -> set[tuple[str, str]]:
    return {(_plain(t.kind), t.key) for t in found if t.kind != "function"}


def _touched(cell: Cell, keys: set[tuple[str, str]]) -> bool:
    return bool(_keys(tokens(cell.text)) & keys)


def _row_reason(heading: str, cells: Sequence[Cell], spoken: Sequence[Token]) -> Reason | None:
    """The row is named, values are whole, and each stands next to its own column."""
    keys = _keys(spoken)
    name, rest = cells[0], cells[1:]
    if not _touched(name, keys):
        return "name"
    said = {t.key for t in spoken}
    marks = {i: _marks(heading, cells, i) for i in range(1, len(cells))}
    # A column's word may come from a heading as well; its value has to be told all the same.
    named = {i: _marks("", cells, i) for i in marks}
    # A word of the row's name ("support calls") tells nothing of a cell that has it too ("Head of Support").
    beyond = keys - _keys(tokens(name.text))
    told = [i for i, cell in enumerate(rest, start=1) if _touched(cell, beyond) or named[i] & said]
    if not told:
        return "dropped"
    for i in (0, *told):
        missing = [t for t in tokens(cells[i].text) if t.kind != "function" and (_plain(t.kind), t.key) not in keys]
        # The row's own name may lose plain words ("gateway"), but not half of it, nor what tells it apart ("H3").
        most = sum(t.kind != "function" for t in tokens(cells[i].text)) / 2
        missing = [t for t in missing if i or t.kind != "word" or len(missing) >= most]
        if missing:
            return "dropped" if missing[0].kind == "word" else _REASONS[missing[0].kind]
    if any(not _together(cells[i], spoken) for i in (0, *told)):
        return "order"
    if not _beside_columns(told, marks, cells, spoken):
        return "column"
    numeric = [i for i in told if any(t.kind == "number" for t in tokens(cells[i].text))]
    if numeric and not _under_columns(numeric, marks, cells, spoken):
        return "column"
    return None


def _together(cell: Cell, spoken: Sequence[Token]) -> bool:
    """What is said of a cell stands in one piece, in its order, with nothing between that changes it."""
    inside = [(_plain(t.kind), t.key) for t in tokens(cell.text)]
    said = [(_plain(t.kind), t.key) for t in spoken]
    content = [key for key in inside if key[0] != "function" and key in said]
    if not content:
        return True
    for start in (p for p, key in enumerate(said) if key == content[0]):
        position = start
        for key in content:
            between = said[position : position + 3]
            if key not in between:
                break
            step = between.index(key)
            if any(k not in inside and (k[0] != "function" or k[1] in _COPULA) for k in between[:step]):
                break
            position += step + 1
        else:
            return True
    return False


_COPULA = frozenset(["is", "are", "was", "were", "be", "been", "am", "has", "have", "had", "do", "does", "did"])


def _marks(heading: str, cells: Sequence[Cell], index: int) -> frozenset[str]:
    """Words of a column's name that stand nowhere else in the row, its other columns or its headings."""
    own = {t.key for t in tokens(cells[index].column) if t.kind != "function"}
    elsewhere = {t.key for t in tokens(heading)}
    for i, cell in enumerate(cells):
        elsewhere |= {t.key for t in tokens(cell.text)}
        if i != index:
            elsewhere |= {t.key for t in tokens(cell.column)}
    return frozenset(own - elsewhere)


def _under_columns(
    numeric: Sequence[int], marks: dict[int, frozenset[str]], cells: Sequence[Cell], spoken: Sequence[Token]
) -> bool:
    """Every number stands after its own column's name, or every one before it."""
    said = [(p, i) for p, t in enumerate(spoken) for i in marks if t.key in marks[i]]
    if not said:
        # Nothing tells columns apart: one value only, and only where no other column could hold it.
        rivals = [i for i in marks if any(t.kind == "number" for t in tokens(cells[i].text))]
        return len(rivals) == 1
    places = [(p, i) for i in numeric for p in _places(cells[i], spoken)]
    before = all(next((j for q, j in reversed(said) if q < p), None) == i for p, i in places)
    after = all(next((j for q, j in said if q > p), None) == i for p, i in places)
    owned = {j for _, j in said}
    return (before or after) and set(numeric) <= owned


def _beside_columns(
    told: Sequence[int], marks: dict[int, frozenset[str]], cells: Sequence[Cell], spoken: Sequence[Token]
) -> bool:
    """No value in words stands behind the name of another column."""
    said = [(p, i) for p, t in enumerate(spoken) for i in marks if t.key in marks[i]]
    for i in told:
        inside = [t for t in tokens(cells[i].text) if t.kind != "function"]
        if not inside or any(t.kind == "number" for t in inside):
            continue  # numbers have a rule of their own
        column = [t.key for t in tokens(cells[i].column)]
        if not marks[i] and any([t.key for t in spoken[p : p + len(column)]] == column for p in range(len(spoken))):
            continue  # "what to do" has no word that marks it, but stands there
        places = [p for p, t in enumerate(spoken) if t.key == inside[0].key and (p, i) not in said]
        behind = [next((j for q, j in reversed(said) if q < p), i) for p in places]
        ahead = [next((j for q, j in said if q > p), None) for p in places]
        if places and i not in behind and i not in ahead:
            return False
    return True


def _places(cell: Cell, spoken: Sequence[Token]) -> list[int]:
    numbers = {t.key for t in tokens(cell.text) if t.kind == "number"}
    return [p for p, t in enumerate(spoken) if t.kind == "number" and t.key in numbers]
