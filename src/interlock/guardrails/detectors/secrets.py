"""Credentials by their published shapes, whose prefixes are exact, and by the names that values are given."""

from __future__ import annotations

import re
from collections.abc import Sequence

from interlock.core.passages import Span
from interlock.guardrails.types import Finding, Rule

__all__ = ["KINDS", "plugin"]

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
_NAMED = re.compile(
    r"""(?ix)
    (?: aws[\w .-]{0,20}secret[\w .-]{0,20} [=:]\s*["']?(?P<aws_secret_key>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])
    | \b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,100}:(?P<url_password>[^\s:@/]{3,100})@
    | \b(?:password|passwd|passphrase|pwd|client[_-]?secret|api[_-]?key|access[_-]?token|auth[_-]?token)["']?
      \s{0,5}[=:]\s{0,5}["']?(?P<password>(?=[^\s"']{0,100}[0-9])(?=[^\s"']{0,100}[A-Za-z])[^\s"',;]{6,100})
    )"""
)
"""Values that only their name gives away. A password has a letter and a digit: "password: required" is none."""
KINDS = (*_SHAPES, *_NAMED.groupindex)
"""Everything it knows."""


def plugin(text: str, rule: Rule) -> Sequence[Finding]:
    """Every credential-shaped string, labelled with its kind."""
    found = [Finding(Span(*match.span()), match.lastgroup or "secret") for match in _ANY.finditer(text)]
    taken = [finding.span for finding in found]
    for match in _NAMED.finditer(text):
        kind = match.lastgroup or "password"
        span = Span(*match.span(kind))
        if not any(span.start < other.end and other.start < span.end for other in taken):
            found.append(Finding(span, kind))
    return sorted(found, key=lambda finding: finding.span.start)
