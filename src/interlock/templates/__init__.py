"""Starting points for `interlock init`: data, rendered with plain Jinja."""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from interlock.core.errors import Conflict, InvalidInput
from interlock.core.yaml_text import read_yaml

__all__ = ["Template", "templates", "write_template"]

_ABOUT = "template.yaml"


class Template(NamedTuple):
    """A starting point."""

    name: str
    description: str


def templates() -> list[Template]:
    """All templates by name."""
    root = resources.files(__package__)
    found = []
    for folder in sorted(root.iterdir(), key=lambda f: f.name):
        about = folder.joinpath(_ABOUT) if folder.is_dir() else None
        if about is not None and about.is_file():
            found.append(Template(folder.name, str(read_yaml(about.read_text("utf-8"))["description"])))
    return found


def write_template(name: str, directory: Path) -> list[str]:
    """Write a template into an empty or new directory; gives the files written, relative.

    Raises: InvalidInput: no such template. Conflict: the directory has a workspace, or files that would be overwritten.
    """
    if name not in {template.name for template in templates()}:
        known = ", ".join(template.name for template in templates())
        raise InvalidInput(f"no template {name!r}", param="--template", hint=f"templates: {known}")
    root = resources.files(__package__).joinpath(name)
    files = [(path, file) for path, file in _walk(root, "") if path != _ABOUT]
    taken = [path for path, _ in files if (directory / path).exists()]
    if taken:
        raise Conflict(f"{str(directory)!r} has {taken[0]!r} already", param="directory", hint="choose a new directory")
    slug = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-") or "workspace"
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, variable_start_string="[[", variable_end_string="]]"
    )
    for path, file in files:
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(environment.from_string(file.read_text("utf-8")).render(workspace=slug), "utf-8")
    return sorted(path for path, _ in files)


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for item in folder.iterdir():
        name = f"{prefix}{item.name}"
        if item.is_dir():
            if item.name != "__pycache__":
                found += _walk(item, f"{name}/")
        else:
            found.append((name, item))
    return found
