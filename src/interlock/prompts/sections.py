"""A prompt taken apart into named texts, so that two versions can be compared wherever they come from. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from interlock.prompts.types import PromptSpec

__all__ = ["SectionDiff", "compared", "sections_of"]


@dataclass(frozen=True, slots=True)
class SectionDiff:
    """One text of two versions that is not the same."""

    name: str
    lines: tuple[str, ...]
    """Unified diff without its two head lines."""


def sections_of(spec: PromptSpec) -> dict[str, str]:
    """`system`, `variables`, `partials/x.md`, `variant NAME`, `examples`, `settings`; only those that it has."""
    said = spec.component()
    found = {"system": spec.system}
    if spec.variables:
        found["variables"] = yaml.safe_dump(said["variables"], sort_keys=True, allow_unicode=True)
    found.update(spec.partials)
    for each in spec.variants:
        found[f"variant {each.name}"] = f"models: {', '.join(each.models)}\n\n{each.system}"
    if spec.examples is not None:
        rows = [json.dumps(row, ensure_ascii=False, sort_keys=True) for row in said["examples"]["rows"]]
        found["examples"] = "\n".join(rows)
    rest = {name: said[name] for name in ("title", "description", "format", "passages") if said.get(name)}
    if spec.examples is not None:
        rest["examples"] = {name: value for name, value in said["examples"].items() if name != "rows"}
    if rest:
        found["settings"] = yaml.safe_dump(rest, sort_keys=True, allow_unicode=True)
    return found


def compared(before: Mapping[str, str], after: Mapping[str, str]) -> Sequence[SectionDiff]:
    """Texts that differ, in the order of `before` and then of `after`."""
    names = list(dict.fromkeys([*before, *after]))
    found = []
    for name in names:
        old, new = before.get(name, ""), after.get(name, "")
        if old != new:
            lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=3)
            # The first two name files, and there are none.
            found.append(SectionDiff(name, tuple(line for place, line in enumerate(lines) if place > 1)))
    return found
