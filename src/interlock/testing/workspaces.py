"""Workspaces for tests: written from plain values into a folder of the test's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["write_workspace"]

# Any in this module: YAML as a person would write it.


def write_workspace(
    folder: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    apps: Mapping[str, Mapping[str, Any]] | None = None,
    prompt: str = "Answer from the passages.",
    documents: Mapping[str, str] | None = None,
    permissions: Sequence[Mapping[str, Any]] = ({"match": "**", "readers": ["public"]},),
    users: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write a workspace and give its folder.

    Args:
        settings: `interlock.yaml`.
        apps: name to `app.yaml`.
        prompt: of every app.
        documents: path to text; they become the collection `docs`.
        permissions: of that collection.
        users: the directory: user to groups.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = {"tenant": "acme", **(settings or {})}
    if users is not None:
        values["access"] = {"users": "users.yaml", **values.get("access", {})}
        people = [{"id": name, "groups": list(groups)} for name, groups in users.items()]
        (folder / "users.yaml").write_text(yaml.safe_dump({"users": people}))
    (folder / "interlock.yaml").write_text(yaml.safe_dump(values))
    for name, app in (apps or {}).items():
        home = folder / "apps" / name
        home.mkdir(parents=True, exist_ok=True)
        (home / "app.yaml").write_text(yaml.safe_dump(dict(app)))
        (home / "prompt.md").write_text(prompt)
    if documents is not None:
        for path, text in documents.items():
            file = folder / "documents" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (folder / "knowledge").mkdir(exist_ok=True)
        spec = {"collection": "docs", "sources": [{"path": "../documents"}], "permissions": list(permissions)}
        (folder / "knowledge" / "docs.yaml").write_text(yaml.safe_dump(spec))
    return folder
