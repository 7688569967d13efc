"""What a document contains that its source has a policy on, and what follows from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from interlock.core.canonical import digest_json
from interlock.core.errors import InvalidInput
from interlock.knowledge.cleaning.edits import Edit, Moves, edited
from interlock.knowledge.cleaning.ports import Scanner, Seen
from interlock.knowledge.cleaning.settings import InjectionPolicy, ValuePolicy
from interlock.knowledge.cleaning.types import CleaningFacts, Concern, Finding
from interlock.knowledge.types import LoadedDocument

__all__ = ["REFUSED", "Policy", "ScannedDocument", "apply_policy"]

REFUSED = "refused_by_policy"
"""Code of a document that a policy does not let in."""
_MOST_FINDINGS = 100
_SAID_BESIDE = "\n\x1f\n"
"""Between strings that are scanned in one go: no value reaches over it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Of one source."""

    pii: ValuePolicy = "allow"
    secrets: ValuePolicy = "flag"
    injection: InjectionPolicy = "flag"

    @property
    def acts(self) -> bool:
        """Whether it needs a scanner to be kept."""
        return any(policy not in {"allow", "flag"} for policy in self.by_concern().values())

    @property
    def keeps_originals(self) -> bool:
        """Not where values are taken out: they would still stand in the file."""
        return "redact" not in {self.pii, self.secrets}

    def by_concern(self) -> Mapping[Concern, ValuePolicy]:
        """In the order in which they are applied."""
        return {"secrets": self.secrets, "pii": self.pii, "injection": self.injection}

    def redacted(self, text: str, scanner: Scanner | None) -> str:
        """A string that is said beside a document, as it may be kept."""
        for concern, what in self.by_concern().items():
            if what == "redact" and scanner is not None:
                text = _said(text, scanner, concern)
        return text

    def digest(self) -> str:
        """Changes when documents must be looked at again."""
        return digest_json(dict(self.by_concern()))


@dataclass(frozen=True, slots=True)
class ScannedDocument:
    """What is left of a document, and what was found."""

    document: LoadedDocument
    facts: CleaningFacts


def apply_policy(document: LoadedDocument, policy: Policy, scanner: Scanner | None, name: str) -> ScannedDocument:
    """Scan, redact, and say what a person must look at. CPU only.

    Args:
        document: normalised.
        policy: of its source.
        scanner: None where nothing looks for anything; no `policy` that acts may come here then.
        name: path, for the message.

    Raises: InvalidInput with the code ``refused_by_policy``.
    """
    if scanner is None:
        return ScannedDocument(document, CleaningFacts())
    counts: Counter[str] = Counter()
    noted: list[Concern] = []
    suspended: list[Concern] = []
    findings: list[Finding] = []
    redacted = 0
    for concern, what in policy.by_concern().items():
        if what == "allow":
            continue
        seen = _apart(scanner.scan(document.text, concern))
        beside = list(_beside(document))
        seen_beside = scanner.scan(_SAID_BESIDE.join(beside), concern) if beside else ()
        if not seen and not seen_beside:
            continue
        labels = Counter(f"{concern}:{one.label}" for one in (*seen, *seen_beside))
        if what == "refuse":
            raise InvalidInput(
                f"the file {name!r} is refused: its source does not take {concern} ({_told(labels)})",
                param=name,
                code=REFUSED,
                hint=f"take it out of the file, or change `{concern}` of the source",
            )
        counts += labels
        if what == "quarantine":
            suspended.append(concern)
        if what != "redact":
            noted.append(concern)
        else:
            redacted += len(seen) + len(seen_beside)
            document, seen, moves = _redacted(document, seen, scanner, concern)
            findings = [_moved(finding, moves) for finding in findings]
        findings += [Finding(concern, one.label, one.start, one.end) for one in seen[:_MOST_FINDINGS]]
    facts = CleaningFacts(
        findings=tuple(sorted(findings, key=lambda finding: finding.start)),
        counts=dict(sorted(counts.items())),
        noted=tuple(noted),
        suspended=tuple(suspended),
        redacted=redacted,
    )
    return ScannedDocument(document, facts)


def _told(labels: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.partition(':')[2]}" for name, count in sorted(labels.items()))


def _beside(document: LoadedDocument) -> Iterator[str]:
    """What is said beside the text; headings stand in it as well."""
    yield document.title
    yield from document.metadata.values()


def _apart(seen: Sequence[Seen]) -> list[Seen]:
    """Without what lies in another finding."""
    kept: list[Seen] = []
    for one in sorted(seen, key=lambda one: (one.start, -one.end)):
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
        elif one.end > kept[-1].end:
            kept[-1] = kept[-1]._replace(end=one.end)
    return kept


def _mark(label: str) -> str:
    return f"[{label.replace('_', ' ')} removed]"


def _redacted(
    document: LoadedDocument, seen: Sequence[Seen], scanner: Scanner, concern: Concern
) -> tuple[LoadedDocument, list[Seen], Moves]:
    edits = [Edit(one.start, one.end, _mark(one.label)) for one in seen]

    moves = Moves(edits)
    placed = [one._replace(start=moves.start(one.start), end=moves.end(one.end)) for one in seen]
    return edited(document, edits, lambda text: _said(text, scanner, concern)), placed, moves


def _said(text: str, scanner: Scanner, concern: Concern) -> str:
    for one in reversed(_apart(scanner.scan(text, concern))):
        text = text[: one.start] + _mark(one.label) + text[one.end :]
    return text


def _moved(finding: Finding, moves: Moves) -> Finding:
    return replace(finding, start=moves.start(finding.start), end=moves.end(finding.end))
