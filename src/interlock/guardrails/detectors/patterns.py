"""The policy's own regular expressions."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.core.patterns import spans
from interlock.guardrails.types import Finding, Rule

__all__ = ["plugin"]


def plugin(text: str, rule: Rule) -> Sequence[Finding]:
    """Every match of every pattern, labelled with the rule."""
    found = [Finding(span, rule.id) for pattern in rule.patterns for span in spans(pattern, text)]
    return sorted(found, key=lambda finding: finding.span)
