"""Two releases component by component: changed fields by their path, text as a unified diff. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from interlock.core.ids import ReleaseId
from interlock.core.release import Release

__all__ = ["ComponentDiff", "FieldChange", "ReleaseDiff", "compare"]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One value that is another."""

    path: str
    """``targets.0``; list places are numbers."""
    before: object
    """None where there was none; `kind` says so."""
    after: object
    kind: Literal["added", "removed", "changed"]
    text: tuple[str, ...] = ()
    """Unified diff, line by line, of text of several lines."""


@dataclass(frozen=True, slots=True)
class ComponentDiff:
    """One component of two releases."""

    kind: str
    state: Literal["same", "added", "removed", "changed"]
    before: str
    """Digest; empty where it has none."""
    after: str
    changes: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, slots=True)
class ReleaseDiff:
    """What turns one release into another."""

    before: ReleaseId
    after: ReleaseId
    components: tuple[ComponentDiff, ...]
    """Of either, by kind."""

    @property
    def changed(self) -> tuple[ComponentDiff, ...]:
        """Those that are not the same."""
        return tuple(each for each in self.components if each.state != "same")


def compare(before: Release, after: Release) -> ReleaseDiff:
    """What turns `before` into `after`."""
    kinds = sorted({*before.components, *after.components})
    return ReleaseDiff(before.id, after.id, tuple(_component(kind, before, after) for kind in kinds))


def _component(kind: str, before: Release, after: Release) -> ComponentDiff:
    old, new = before.digests.get(kind, ""), after.digests.get(kind, "")
    if old == new:
        return ComponentDiff(kind, "same", old, new)
    state: Literal["added", "removed", "changed"] = "added" if not old else "removed" if not new else "changed"
    changes = tuple(_changes(before.components.get(kind, {}), after.components.get(kind, {})))
    return ComponentDiff(kind, state, old, new, changes)


def _changes(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[FieldChange]:
    old, new = dict(_leaves(before)), dict(_leaves(after))
    for path in sorted({*old, *new}, key=_sorted_by):
        if path not in old:
            yield FieldChange(path, None, new[path], "added", _text("", new[path]))
        elif path not in new:
            yield FieldChange(path, old[path], None, "removed", _text(old[path], ""))
        elif old[path] != new[path] or type(old[path]) is not type(new[path]):
            yield FieldChange(path, old[path], new[path], "changed", _text(old[path], new[path]))


def _sorted_by(path: str) -> list[tuple[int, int, str]]:
    return [(0, int(step), "") if step.isdigit() else (1, 0, step) for step in path.split(".")]


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    inside: list[tuple[str, object]] = []
    if isinstance(value, Mapping):
        inside = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        inside = [(str(place), item) for place, item in enumerate(value)]
    if not inside and path:
        # An empty mapping or list is a value of its own: that it was emptied is a change.
        yield path, value
    for step, item in inside:
        yield from _leaves(item, f"{path}.{step}" if path else step)


def _text(before: object, after: object) -> tuple[str, ...]:
    if not (isinstance(before, str) and isinstance(after, str)) or "\n" not in before + after:
        return ()
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=3)
    # The first two name files, and there are none.
    return tuple(line for place, line in enumerate(lines) if place > 1)
