"""Looks prompts over before anybody is served them. Each rule is one file of `rules/`; nothing is rendered or asked.

A rule says what it found and where; what it is for and what to do about it are the same for every finding. What a rule
cannot know it does not report: a clean prompt is one without known faults, not a good one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from interlock.core.plugins import Registry
from interlock.prompts.files import Loaded
from interlock.prompts.pieces import Piece, Place, pieces_of
from interlock.prompts.settings import Level
from interlock.prompts.types import PromptSpec

__all__ = [
    "AppFacts",
    "Fault",
    "Finding",
    "Levels",
    "Rule",
    "Secret",
    "Seen",
    "Severity",
    "Subject",
    "Text",
    "lint",
    "rules",
    "subject_of",
    "worst",
]

Severity = Literal["warn", "error"]
Levels = Mapping[str, Level]
"""What a rule's findings count as, where it is not what the rule itself says."""


class Secret(NamedTuple):
    """A credential in a text."""

    kind: str
    start: int


class Seen(NamedTuple):
    """A few-shot example that says what a case of an evaluation asks, or expects."""

    row: int
    suite: str
    case: str
    """Empty for one whose rows are never shown."""
    part: str
    """``input`` or ``expected``."""
    contained: float
    """Share of the case's words, in runs of three, that stand in the example; 1 for the same words."""
    exact: bool


def _fits(text: str) -> str:
    return ""


def _no_secrets(text: str) -> Sequence[Secret]:
    return ()


@dataclass(frozen=True, slots=True)
class AppFacts:
    """What rules know of an app that uses the prompt."""

    name: str
    documents: bool = False
    """It answers from documents: then Interlock itself asks for citations, and for NONE where they hold no answer."""
    # Any: a JSON schema.
    output: Mapping[str, Any] | None = None
    """Schema of its answers."""
    targets: Sequence[str] = ()
    """``provider/model``, with those of last resort."""
    context_tokens: int = 0
    """Of the shortest context that a target has; 0 where none is known."""
    context_of: str = ""
    answer_tokens: int = 0
    """Kept free for the answer."""
    passage_tokens: int = 0
    """Kept free for passages."""
    seen: Sequence[Seen] = ()
    fits_output: Callable[[str], str] = _fits
    """Why a text is no answer in the app's form; empty where it is one."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a prompt."""

    name: str
    source: str
    file: str
    """Path below the workspace; empty where only the registry has it."""
    lines_before: int = 0
    """Of its file, before the text begins."""


@dataclass(frozen=True)
class Subject:
    """What is looked over."""

    spec: PromptSpec
    texts: Sequence[Text]
    """The system text, those for certain models, then partials."""
    examples_file: str = ""
    example_lines: Sequence[int] = ()
    head_file: str = ""
    app: AppFacts | None = None
    secrets: Callable[[str], Sequence[Secret]] = _no_secrets

    @property
    def mains(self) -> Sequence[Text]:
        """Texts that are sent: all but partials."""
        return [text for text in self.texts if text.name not in self.spec.partials]

    @cached_property
    def pieces(self) -> Mapping[str, Sequence[Piece]]:
        """What each text that is sent writes, its partials in their places."""
        return {text.name: pieces_of(self.spec, text.name, text.source) for text in self.mains}


class Fault(NamedTuple):
    """What a rule found."""

    message: str
    place: Place | None = None
    """None: the head of the prompt."""
    row: int | None = None
    """Of a few-shot example."""
    other: Place | None = None
    """Another place that the message speaks of."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: a file of `rules/` whose `plugin` is one of these."""

    severity: Level
    reason: str
    """Why it matters."""
    remedy: str
    """What to do about it."""
    find: Callable[[Subject], Iterable[Fault]]


rules: Registry[Rule] = Registry("prompt_rule", "interlock.prompts.rules")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a prompt, at its place."""

    rule: str
    severity: Severity
    message: str
    reason: str
    remedy: str
    file: str
    line: int
    """From 1."""
    apps: tuple[str, ...] = field(default=())
    """For which it holds; empty where it holds whoever uses the prompt."""


def lint(subject: Subject, levels: Levels | None = None) -> list[Finding]:
    """Everything that rules find, errors first, then by place. Raises: InvalidInput: a template has a mistake."""
    asked = levels or {}
    found: list[Finding] = []
    for name in rules.names():
        rule = rules.get(name)
        severity = asked.get(name, rule.severity)
        if severity == "off":
            continue
        for fault in rule.find(subject):
            file, line = _where(subject, fault)
            message = fault.message
            if fault.other is not None:
                there, at = _where(subject, Fault("", fault.other))
                message += f" of line {at}" + (f" of {there}" if there != file else "")
            found.append(Finding(name, severity, message, rule.reason, rule.remedy, file, line))
    return sorted(dict.fromkeys(found), key=lambda each: (each.severity != "error", each.file, each.line, each.rule))


def worst(found: Iterable[Finding]) -> Severity | None:
    """The severest of them."""
    levels = {each.severity for each in found}
    return "error" if "error" in levels else "warn" if levels else None


def _where(subject: Subject, fault: Fault) -> tuple[str, int]:
    if fault.row is not None:
        lines = subject.example_lines
        return subject.examples_file or "examples", lines[fault.row] if fault.row < len(lines) else fault.row + 1
    if fault.place is None:
        return subject.head_file or "system", 1
    text = next((each for each in subject.texts if each.name == fault.place.text), subject.texts[0])
    return text.file or text.name, text.lines_before + fault.place.line


def subject_of(
    spec: PromptSpec,
    loaded: Loaded | None = None,
    *,
    app: AppFacts | None = None,
    secrets: Callable[[str], Sequence[Secret]] = _no_secrets,
) -> Subject:
    """A prompt ready to be looked over.

    Args:
        loaded: its files, so that findings name file and line; without them they name the text.
        app: one that uses it.
        secrets: finds credentials.
    """
    files = {} if loaded is None else loaded.files
    main = "" if loaded is None else loaded.main
    texts = [_text("system", spec.system, main, files)]
    for variant in spec.variants:
        own = [path for path, text in files.items() if path != main and _body(text) == variant.system]
        texts.append(_text(f"variant {variant.name}", variant.system, own[0] if own else "", files))
    for name, source in spec.partials.items():
        own = [path for path in files if path == name or path.endswith(f"/{name}")]
        texts.append(_text(name, source, own[0] if own else "", files))
    rows = [path for path in files if path.endswith(".jsonl")]
    lines = [number for path in rows[:1] for number, line in enumerate(files[path].split("\n"), 1) if line.strip()]
    return Subject(spec, texts, rows[0] if rows else "", lines, main, app, secrets)


def _body(text: str) -> str:
    if text.startswith("---\n") and "\n---\n" in text:
        text = text[3:].partition("\n---\n")[2]
    return text.strip()


def _text(name: str, source: str, file: str, files: Mapping[str, str]) -> Text:
    whole = files.get(file, "")
    at = whole.find(source) if source else -1
    return Text(name, source, file, whole[:at].count("\n") if at > 0 else 0)
