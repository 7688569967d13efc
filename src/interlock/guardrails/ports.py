"""What plugs into guardrails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from interlock.guardrails.types import Finding, Rule

__all__ = ["Detector"]

Detector = Callable[[str, Rule], Sequence[Finding]]
"""The symbol `plugin` of a detector file: (text, rule) -> findings by start. Must not raise and must stay linear in the
length of the text."""
