"""Instructions to the model inside text that should only inform it.

A signal for well-known phrasings in English and German; ordinary-looking instructions pass, and only the separation of
data from authority stops those. Measured by `benchmarks/guardrails.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from interlock.core.passages import Span
from interlock.guardrails.types import Finding, Rule

__all__ = ["KINDS", "plugin"]

KINDS = ("injection",)

# Possessive white space (++): a long run of blanks is passed once, not once for each of its suffixes.
_PHRASES = re.compile(
    r"""
    \b(?:ignore|disregard|forget|override|bypass)\s++(?:(?:all|any|the|your|my|these|every|of|everything)\s++){0,3}
        (?:previous|prior|above|earlier|preceding|system|safety)?\s*+
        (?:instructions?|prompts?|rules?|directions?|guidelines?|messages?|context)\b
    | \b(?:vergiss|ignoriere|missachte)\s++(?:(?:alle|alles|die|deine|vorherigen|bisherigen)\s++){0,3}
        (?:anweisungen|instruktionen|regeln|aufgaben)\b
    | \byou\s++are\s++(?:now|no\s++longer)\s++(?:a|an|in|the|bound)\b
    | \b(?:reveal|print|repeat|show|output)\s++(?:me\s++)?(?:your|the)\s++(?:system|hidden|initial|original)\s++
        (?:prompt|instructions?|message)\b
    | \bnew\s++(?:system\s++)?instructions?\s*+:
    | <\|?(?:im_start|im_end|system|endoftext)\|?>
    | \[/?INST\]
    | \bdo\s++anything\s++now\b
    | \bdeveloper\s++mode\s++(?:enabled|on)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def plugin(text: str, rule: Rule) -> Sequence[Finding]:
    """Every known phrase of command."""
    return [Finding(Span(*match.span()), "injection", 0.9) for match in _PHRASES.finditer(text)]
