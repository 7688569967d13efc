"""The guardrails' detectors as the ingest sees them: personal data, secrets and instructions in documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interlock.guardrails.service import Guardrails
from interlock.guardrails.types import Rule
from interlock.knowledge.cleaning.ports import Seen
from interlock.knowledge.cleaning.types import Concern

__all__ = ["DocumentScanner"]

_RULES: Mapping[Concern, Rule] = {
    concern: Rule(id=f"ingest-{concern}", detector=concern, at=["passages"])
    for concern in ("pii", "secrets", "injection")
}


class DocumentScanner:
    """Scans with the detectors that apps use. Implements :class:`interlock.knowledge.cleaning.ports.Scanner`.

    Needs no model. A signal, no guarantee: values without a known shape and orders in ordinary words pass.
    """

    version = "detectors/1"
    """Goes up with a change of the detectors `pii`, `secrets` or `injection`."""

    def scan(self, text: str, concern: Concern) -> Sequence[Seen]:
        """What one detector sees."""
        found = Guardrails.findings(_RULES[concern], text)
        return [Seen(one.span.start, one.span.end, one.label) for one in found]
