"""Formulas of Office documents on one line, nearly as Word writes them: ``(a+b)/c``, ``x_i^2``, ``√(x)``."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

__all__ = ["FORMULAS", "linear"]

_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
FORMULAS = (f"{_M}oMathPara", f"{_M}oMath")
_PLAIN = frozenset({"ctrlPr", "rPr", "sty"})


# Any in this module: lxml ships no types.
def linear(formula: Any) -> str:
    """The text of an element of Office Math (ISO/IEC 29500-1, 22.1). What is not known is read as its parts."""
    name = str(formula.tag).removeprefix(_M)
    if name == "t":
        return formula.text or ""
    if name.endswith("Pr") or name in _PLAIN:
        return ""
    shape = _SHAPES.get(name)
    return "".join(map(linear, formula)) if shape is None else shape(formula)


def _part(formula: Any, name: str) -> str:
    found = formula.find(f"{_M}{name}")
    return "" if found is None else linear(found).strip()


def _held(text: str) -> str:
    """In parentheses unless it is one thing: a sign, a number, a name, what stands in parentheses already."""
    one = len(text) < 2 or text.replace(".", "", 1).isalnum() or _enclosed(text)
    return text if one else f"({text})"


def _enclosed(text: str) -> bool:
    depths = accumulate({"(": 1, ")": -1}.get(sign, 0) for sign in text)
    return text.startswith("(") and text.endswith(")") and all(depth > 0 for depth in list(depths)[:-1])


def _sign(formula: Any, name: str, default: str) -> str:
    properties = formula.find(f"{_M}{str(formula.tag).removeprefix(_M)}Pr")
    found = None if properties is None else properties.find(f"{_M}{name}")
    return default if found is None else str(found.get(f"{_M}val", ""))


def _with_limits(formula: Any, base: str) -> str:
    below, above = _part(formula, "sub"), _part(formula, "sup")
    return base + (f"_{_held(below)}" if below else "") + (f"^{_held(above)}" if above else "")


def _fraction(formula: Any) -> str:
    return f"{_held(_part(formula, 'num'))}/{_held(_part(formula, 'den'))}"


def _scripts(formula: Any) -> str:
    return _with_limits(formula, _held(_part(formula, "e")))


def _scripts_before(formula: Any) -> str:
    return _with_limits(formula, "") + _held(_part(formula, "e"))


def _root(formula: Any) -> str:
    degree = _part(formula, "deg")
    return f"√({degree}&{_part(formula, 'e')})" if degree else f"√({_part(formula, 'e')})"


def _many(formula: Any) -> str:
    return f"{_with_limits(formula, _sign(formula, 'chr', '∫'))} {_part(formula, 'e')}"


def _between(formula: Any) -> str:
    parts = [linear(one).strip() for one in formula.iterchildren(f"{_M}e")]
    return (
        _sign(formula, "begChr", "(")
        + (_sign(formula, "sepChr", "|") or "|").join(parts)
        + _sign(formula, "endChr", ")")
    )


def _function(formula: Any) -> str:
    return f"{_part(formula, 'fName')} {_held(_part(formula, 'e'))}"


def _limit(formula: Any) -> str:
    sign = "_" if str(formula.tag).endswith("limLow") else "^"
    return f"{_part(formula, 'e')}{sign}{_held(_part(formula, 'lim'))}"


def _matrix(formula: Any) -> str:
    rows = formula.iterchildren(f"{_M}mr")
    return "[" + "; ".join(", ".join(linear(one).strip() for one in row) for row in rows) + "]"


def _lines(formula: Any) -> str:
    return "; ".join(linear(one).strip() for one in formula.iterchildren(f"{_M}e"))


def _accent(formula: Any) -> str:
    return _held(_part(formula, "e")) + _sign(formula, "chr", "\u0302")


def _paragraph(formula: Any) -> str:
    return "; ".join(linear(one).strip() for one in formula.iterchildren(f"{_M}oMath"))


_SHAPES = {
    "f": _fraction,
    "sSup": _scripts,
    "sSub": _scripts,
    "sSubSup": _scripts,
    "sPre": _scripts_before,
    "rad": _root,
    "nary": _many,
    "d": _between,
    "func": _function,
    "limLow": _limit,
    "limUpp": _limit,
    "m": _matrix,
    "eqArr": _lines,
    "acc": _accent,
    "oMathPara": _paragraph,
}
