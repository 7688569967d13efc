"""A change of settings as a diff of the file they stand in, keeping its comments and its order."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any

import yaml

from interlock.core.errors import InvalidInput
from interlock.core.yaml_text import YamlFault, read_yaml

__all__ = ["diff_of", "with_settings", "write_whole"]

# Any in this module: settings as YAML has them.


def with_settings(text: str, path: Sequence[str], values: Mapping[str, Any]) -> str:
    """A YAML file's text with `values` in the mapping at `path`; what else stands there stays.

    Raises: InvalidInput: it is no YAML that can be changed so: then nothing is changed.
    """
    changed = text
    for key, value in values.items():
        changed = _with(changed, [*path, key], value)
    wanted = _loaded(text)
    at = wanted
    for step in path:
        if at.get(step) is None:
            at[step] = {}
        at = at[step]
    at.update(values)
    if _loaded(changed) != wanted:
        raise InvalidInput(
            "the settings file is written in a way that cannot be changed by itself",
            param="interlock.yaml",
            hint="put the proposed settings in by hand",
        )
    return changed


def diff_of(before: str, after: str, name: str) -> str:
    """As `patch` reads it."""
    lines = unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}", n=2
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def write_whole(path: Path, before: str, after: str) -> None:
    """Write a file at once. Raises: InvalidInput: it is not what it was any more."""
    if path.read_text("utf-8") != before:
        raise InvalidInput(f"{path.name} was changed meanwhile", param=path.name, hint="tune again")
    part = path.with_name(path.name + ".part")
    part.write_text(after, "utf-8")
    part.chmod(path.stat().st_mode)
    os.replace(part, path)


def _loaded(text: str) -> dict[str, Any]:
    try:
        found = read_yaml(text)
    except YamlFault as error:
        raise InvalidInput("the settings file cannot be read as YAML", param="interlock.yaml") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidInput("the settings file is no mapping", param="interlock.yaml")
    return found


def _with(text: str, path: Sequence[str], value: Any) -> str:
    """As deep as the file goes, then what is missing below that."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    node, depth, steps = root, 0, list(path)
    parent: yaml.MappingNode | None = None
    while isinstance(node, yaml.MappingNode):
        child = next((v for k, v in node.value if k.value == steps[depth]), None)
        if child is None:
            break
        parent, node, depth = node, child, depth + 1
        if depth == len(steps):
            break
    if root is None:
        return text + ("" if not text or text.endswith("\n") else "\n") + _block(steps, value, 0)
    if depth < len(steps) and isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        # Before its first key: comments above that belong to it stay where they are.
        column = node.start_mark.column
        begin = node.start_mark.index - column
        return text[:begin] + _block(steps[depth:], value, column) + text[begin:]
    if not isinstance(node, yaml.Node):
        raise InvalidInput("the settings file is no mapping", param="interlock.yaml")
    # Something of one line, or the value itself, is written anew as a whole.
    old = yaml.SafeLoader("")
    held = old.construct_document(node)
    whole = value if depth == len(steps) else _merged(held, steps[depth:], value)
    start, end = node.start_mark.index, node.end_mark.index
    inside_flow = parent is not None and parent.flow_style
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value and not inside_flow:
        column = node.start_mark.column
        written = yaml.safe_dump(whole, sort_keys=False, default_flow_style=False)
        lines = written.rstrip("\n").split("\n")
        return text[:start] + ("\n" + " " * column).join(lines) + text[_end_of(node) :]
    plain = yaml.safe_dump(whole, sort_keys=False, default_flow_style=True, width=10_000).strip().removesuffix("\n...")
    space = " " if start and text[start - 1] == ":" else ""
    return text[:start] + space + plain + text[end:]


def _end_of(node: yaml.Node) -> int:
    """Where what is written ends: the end mark of a block is where the next thing begins."""
    last: yaml.Node = node
    while isinstance(last, (yaml.MappingNode, yaml.SequenceNode)) and last.value and not last.flow_style:
        last = last.value[-1][1] if isinstance(last, yaml.MappingNode) else last.value[-1]
    return int(last.end_mark.index)


def _merged(held: Any, steps: Sequence[str], value: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict(held) if isinstance(held, dict) else {}
    first, *rest = steps
    found[first] = value if not rest else _merged(found.get(first), rest, value)
    return found


def _block(steps: Sequence[str], value: Any, column: int) -> str:
    nested = value
    for step in reversed(steps):
        nested = {step: nested}
    written = yaml.safe_dump(nested, sort_keys=False, default_flow_style=False)
    return "".join(" " * column + line + "\n" for line in written.splitlines())
