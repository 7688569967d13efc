"""Prompts as JSON, the same for the API and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interlock.flows.prompt_desk import Dependant, Preview
from interlock.flows.prompt_lint import Linted
from interlock.flows.prompt_testing import Tested
from interlock.prompts.files import Loaded, text_digest
from interlock.prompts.linting import Finding
from interlock.prompts.prompt_store import Label, Version
from interlock.prompts.registry import Known
from interlock.prompts.sections import SectionDiff

__all__ = [
    "current_view",
    "dependant_view",
    "finding_view",
    "known_view",
    "label_view",
    "linted_view",
    "preview_view",
    "section_view",
    "tested_view",
    "version_view",
]

# Any in this module: JSON on its way out.


def known_view(known: Known) -> dict[str, Any]:
    """One prompt of the list."""
    loaded = known.loaded
    return {
        "name": known.place.name,
        "apps": list(known.place.apps),
        "file": None if loaded is None else loaded.main,
        "title": None if loaded is None else loaded.spec.title,
        "digest": None if loaded is None else loaded.digest,
        "error": None if known.error is None else known.error.message,
        "labels": [label_view(each) for each in known.labels],
    }


def label_view(label: Label) -> dict[str, Any]:
    """A pointer."""
    return {
        "label": label.name,
        "version": label.digest,
        "moved_by": label.moved_by,
        "moved_at": label.moved_at.isoformat(),
    }


def version_view(version: Version, labels: Sequence[Label] = (), *, whole: bool = False) -> dict[str, Any]:
    """A version, with its texts where they are asked for."""
    told: dict[str, Any] = {
        "digest": version.digest,
        "origin": version.origin,
        "author": version.author,
        "rationale": version.rationale,
        "at": version.at.isoformat(),
        "labels": [each.name for each in labels if each.digest == version.digest],
    }
    if whole:
        told |= {"component": dict(version.component), "files": dict(version.files), "base": dict(version.base)}
    return told


def current_view(loaded: Loaded) -> dict[str, Any]:
    """What the files say now. `base` is what a draft over them is saved with."""
    return {
        "digest": loaded.digest,
        "file": loaded.main,
        "component": loaded.spec.component(),
        "files": dict(loaded.files),
        "base": {path: text_digest(text) for path, text in loaded.files.items()},
    }


def dependant_view(found: Dependant) -> dict[str, Any]:
    """What holds a prompt."""
    return {
        "app": found.app,
        "release": found.release,
        "prompt": found.digest,
        "channels": list(found.channels),
        "rollouts": list(found.rollouts),
    }


def preview_view(made: Preview) -> dict[str, Any]:
    """A rendered prompt."""
    return {
        "system": made.system,
        "variant": made.variant,
        "turns": [dict(each) for each in made.turns],
        "tokens": dict(made.tokens),
        "variants": dict(made.variants),
    }


def section_view(found: SectionDiff) -> dict[str, Any]:
    """A text of two versions that is not the same."""
    return {"section": found.name, "diff": list(found.lines)}


def finding_view(found: Finding) -> dict[str, Any]:
    """A fault of a prompt."""
    return {
        "rule": found.rule,
        "severity": found.severity,
        "message": found.message,
        "reason": found.reason,
        "remedy": found.remedy,
        "file": found.file,
        "line": found.line,
        "apps": list(found.apps),
    }


def linted_view(looked: Linted) -> dict[str, Any]:
    """A prompt that was looked over."""
    return {
        "prompt": looked.name,
        "digest": looked.digest,
        "findings": [finding_view(each) for each in looked.findings],
        "notes": list(looked.notes),
    }


def tested_view(tested: Tested) -> dict[str, Any]:
    """What the tests of a prompt showed."""
    return {
        "prompt": tested.prompt,
        "digest": tested.digest,
        "run": None if tested.report is None else tested.report.id,
        "passed": len(tested.results) - tested.failed,
        "failed": tested.failed,
        "tests": [
            {"name": each.name, "kind": each.kind, "passed": each.passed, "failures": list(each.failures)}
            for each in tested.results
        ],
    }
