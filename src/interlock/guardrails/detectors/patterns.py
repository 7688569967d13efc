"""The policy's own regular expressions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from interlock.core.passages import Span
from interlock.guardrails.types import Finding, Rule

__all__ = ["plugin"]


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def plugin(text: str, rule: Rule) -> Sequence[Finding]:
    """Every match of every pattern, labelled with the rule."""
    found = [
        Finding(Span(*match.span()), rule.id)
        for pattern in rule.patterns
        for match in _compiled(pattern).finditer(text)
    ]
    return sorted(found, key=lambda finding: finding.span)
