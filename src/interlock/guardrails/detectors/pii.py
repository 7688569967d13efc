"""Personal data with a checkable shape: e-mail, phone, IBAN, payment cards, US social security numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from interlock.core.passages import Span
from interlock.guardrails.types import Finding, Rule

__all__ = ["plugin"]

_SHAPES = {
    "email": r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5}\b",
    "iban": r"\b[A-Z]{2}\d{2}(?:\s?[A-Z0-9]{4}){2,7}(?:\s?[A-Z0-9]{1,3})?\b",
    "card": r"\b\d(?:[ -]?\d){12,18}\b",
    "ssn": r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}\b",
    "phone": r"(?<![\w.])\+\d{1,3}(?:[ .()-]{0,2}\d){7,12}\b",
}
_ANY = re.compile("|".join(f"(?P<{name}>{shape})" for name, shape in _SHAPES.items()))


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [d if i % 2 == 0 else (d * 2 - 9 if d > 4 else d * 2) for i, d in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0


def _iban(text: str) -> bool:
    code = re.sub(r"\s", "", text)
    return 15 <= len(code) <= 34 and int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1


_CHECKS: dict[str, Callable[[str], bool]] = {"card": _luhn, "iban": _iban}


def plugin(text: str, rule: Rule) -> Sequence[Finding]:
    """Every value whose shape (and check digits, where it has them) fits, labelled with its kind."""
    found = []
    for match in _ANY.finditer(text):
        kind = match.lastgroup or ""
        check = _CHECKS.get(kind)
        if check is None or check(match.group()):
            found.append(Finding(Span(*match.span()), kind))
    return found
