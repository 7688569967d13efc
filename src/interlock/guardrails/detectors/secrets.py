"""Credentials by their published shapes: prefixes are exact, so false alarms are rare."""

from __future__ import annotations

import re
from collections.abc import Sequence

from interlock.core.passages import Span
from interlock.guardrails.types import Finding, Rule

__all__ = ["plugin"]

_SHAPES = {
    "aws_access_key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "github_token": r"\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    "anthropic_key": r"\bsk-ant-[A-Za-z0-9_-]{20,}",
    "openai_key": r"\bsk-(?:proj-)?[A-Za-z0-9_-]{20,}",
    "slack_token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b",
    "interlock_key": r"\bil_[a-z0-9]{8}_[A-Za-z0-9_-]{30,}\b",
    "private_key": r"-----BEGIN (?:[A-Z]{1,12} ){0,2}PRIVATE KEY-----"
    r"(?:\s*+[A-Za-z0-9+/=]{16,})*+(?:\s*+[A-Za-z0-9+/=]*+\s*+-----END (?:[A-Z]{1,12} ){0,2}PRIVATE KEY-----)?",
    "jwt": r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}+\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
}
_ANY = re.compile("|".join(f"(?P<{name}>{shape})" for name, shape in _SHAPES.items()))


def plugin(text: str, rule: Rule) -> Sequence[Finding]:
    """Every credential-shaped string, labelled with its kind."""
    return [Finding(Span(*match.span()), match.lastgroup or "secret") for match in _ANY.finditer(text)]
