"""Personal data with a checkable shape: e-mail, phone, IBAN, payment cards, US social security numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from interlock.core.passages import Span
from interlock.guardrails.types import Finding, Rule

__all__ = ["KINDS", "plugin"]

_SHAPES = {
    "email": r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5}\b",
    "iban": r"\b[A-Z]{2}\d{2}(?:\s?[A-Z0-9]{4}){2,7}(?:\s?[A-Z0-9]{1,3})?\b",
    "card": r"\b\d(?:[ -]?\d){12,18}\b",
    "ssn": r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}\b",
    "phone": r"(?<![\w.])\+\d{1,3}(?:[ .()-]{0,2}\d){7,12}\b",
}
KINDS = tuple(_SHAPES)
"""Everything it knows: names, addresses and dates of birth are not among it."""
_ANY = re.compile("|".join(f"(?P<{name}>{shape})" for name, shape in _SHAPES.items()))


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [d if i % 2 == 0 else (d * 2 - 9 if d > 4 else d * 2) for i, d in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0


def _iban(text: str) -> bool:
    code = re.sub(r"\s", "", text)
    return 15 <= len(code) <= 34 and int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1


def _whole(text: str) -> int:
    return len(text)


def _card(text: str) -> int:
    return len(text) if _luhn(text) else 0


def _account(text: str) -> int:
    """Capitals that follow a number look like more of it: the longest part with right check digits counts."""
    ends = [len(text), *(match.start() for match in reversed(list(re.finditer(r"\s", text))))]
    return next((end for end in ends if _iban(text[:end])), 0)


_LENGTHS: dict[str, Callable[[str], int]] = {"card": _card, "iban": _account}
"""How much of a match is the value, 0 when its check digits are wrong."""


def plugin(text: str, rule: Rule) -> Sequence[Finding]:
    """Every value whose shape (and check digits, where it has them) fits, labelled with its kind."""
    found = []
    for match in _ANY.finditer(text):
        kind = match.lastgroup or ""
        if length := _LENGTHS.get(kind, _whole)(match.group()):
            found.append(Finding(Span(match.start(), match.start() + length), kind))
    return found
