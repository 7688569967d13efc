"""Where knowledge comes from: ``knowledge/*.yaml``, and the walk over its folders."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from interlock.core.errors import InterlockError, InvalidInput, TooLarge
from interlock.core.wording import first, told
from interlock.knowledge.languages import KNOWN

__all__ = [
    "MetadataRule",
    "PermissionRule",
    "SourceFile",
    "SourceFolder",
    "SourceSpec",
    "matches",
    "parse_spec",
    "read_file",
    "read_head",
    "read_spec",
    "walk",
]

Reader = Annotated[str, StringConstraints(pattern=r"^(public|user:.{1,200}|group:.{1,200})$")]
Suffix = Annotated[str, StringConstraints(pattern=r"^\.[a-z0-9_+-]{1,20}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


def _known_language(code: str) -> str:
    if code not in KNOWN:
        raise ValueError(f"{code!r} is no language that can be read; known: {', '.join(sorted(KNOWN))}")
    return code


Language = Annotated[str, AfterValidator(_known_language)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceFolder(_Strict):
    """One folder. Globs match the path below it: ``*`` within a folder, ``**`` across folders."""

    path: str
    """Relative to the file that names it."""
    include: tuple[str, ...] = ("**/*",)
    exclude: tuple[str, ...] = ()
    prefix: str = ""
    """Put before every path, so that two folders with the same file names can live in one collection."""


class PermissionRule(_Strict):
    """Who may read what matches."""

    match: str
    readers: tuple[Reader, ...]


class MetadataRule(_Strict):
    """Facts about what matches, e.g. ``status: withdrawn``. Wins over the document's own front matter."""

    match: str
    set: Mapping[str, str]


class SourceSpec(_Strict):
    """One collection: its folders, who may read them, and facts about them. One file owns one collection."""

    collection: Name
    sources: tuple[SourceFolder, ...] = Field(min_length=1)
    languages: tuple[Language, ...] = ()
    """ISO 639-1 codes of what the documents are written in; when empty, each document is looked at."""
    loaders: Mapping[Suffix, str] = Field(default_factory=dict)
    """Suffix to the name of the loader that reads it, e.g. ``.pdf`` to a plug-in of yours."""
    permissions: tuple[PermissionRule, ...] = ()
    """First match wins; a document that matches nothing is readable by nobody."""
    metadata: tuple[MetadataRule, ...] = ()
    """First match wins."""

    def readers_of(self, source: str) -> frozenset[str]:
        """Readers of the document at a path."""
        for rule in self.permissions:
            if matches(rule.match, source):
                return frozenset(rule.readers)
        return frozenset()

    def facts_of(self, source: str) -> Mapping[str, str]:
        """Metadata the spec sets for a path."""
        for rule in self.metadata:
            if matches(rule.match, source):
                return dict(rule.set)
        return {}


def read_spec(path: Path) -> SourceSpec:
    """Read ``knowledge/NAME.yaml``; its folders become absolute.

    Raises: InvalidInput: names the field (`param`) at fault.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"the source file {path.name!r} cannot be read as YAML", param=path.name) from error
    return parse_spec(values, base=path.parent, name=path.name)


def parse_spec(values: object, *, base: Path, name: str) -> SourceSpec:
    """Check the content of a source file called `name`; relative folders start at `base`.

    Raises: InvalidInput.
    """
    try:
        spec = SourceSpec.model_validate(values)
    except ValidationError as error:
        fault = first(error)
        field = ".".join(str(part) for part in fault["loc"]) or "(top level)"
        raise InvalidInput(
            f"{name}: {field}: {told(SourceSpec, fault)}",
            param=field,
            hint="see docs/how-to/document-permissions.md for the fields",
        ) from error
    folders = tuple(f.model_copy(update={"path": os.path.normpath(base.absolute() / f.path)}) for f in spec.sources)
    return spec.model_copy(update={"sources": folders})


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    special = {"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    return re.compile("".join(special.get(part) or _class_or_literal(part) for part in parts if part), re.DOTALL)


def _class_or_literal(part: str) -> str:
    if not (part.startswith("[") and part.endswith("]") and len(part) > 2):
        return re.escape(part)
    negated = part.startswith("[!") and len(part) > 3
    inner = re.escape(part[2:-1] if negated else part[1:-1]).replace(r"\-", "-")
    pattern = f"[^/{inner}]" if negated else f"[{inner}]"
    try:
        re.compile(pattern)
    except re.error:  # a range the wrong way round is read as plain text
        return re.escape(part)
    return pattern


def matches(glob: str, path: str) -> bool:
    """Whether the whole `path` (with ``/``) matches; ``**`` crosses folders, ``**/`` also matches none."""
    return _pattern(glob).fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file found by the walk, or the reason why it must not be read."""

    source: str
    """Path below its folder with ``/``, with the folder's prefix."""
    path: Path
    error: InterlockError | None = None


def walk(spec: SourceSpec) -> Iterator[SourceFile]:
    """Files of all folders in path order. Hidden files, Word's lock files and linked folders are left out.

    Reads directories only. Raises: InvalidInput: a folder is missing, or two files have the same path.
    """
    seen: set[str] = set()
    for folder in spec.sources:
        root = Path(folder.path)
        if not root.is_dir():
            raise InvalidInput(f"the source folder {folder.path!r} does not exist", param="sources.path")
        for relative, path in _files(root):
            if not any(matches(g, relative) for g in folder.include) or any(
                matches(g, relative) for g in folder.exclude
            ):
                continue
            source = f"{folder.prefix.rstrip('/')}/{relative}" if folder.prefix else relative
            if source in seen:
                raise InvalidInput(
                    f"two files of {spec.collection!r} have the path {source!r}",
                    param="sources.prefix",
                    hint="give one of the folders a prefix",
                )
            seen.add(source)
            yield SourceFile(source, path, _refusal(root, path, source))


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for current, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith((".", "~$")):
                continue
            path = Path(current) / name
            relative = path.relative_to(root).as_posix()
            # Undecodable bytes of a file name arrive as lone surrogates; macOS names are decomposed.
            readable = relative.encode("utf-8", "replace").decode("utf-8")
            yield unicodedata.normalize("NFC", readable), path


def _refusal(root: Path, path: Path, source: str) -> InterlockError | None:
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        return InvalidInput(
            f"the file {source!r} is a link that leaves its folder", param=source, code="link_outside_source"
        )
    return None


def read_file(file: SourceFile, *, max_bytes: int) -> bytes:
    """The bytes of a file. Blocking disk read.

    Raises: InvalidInput: it cannot be read, is no regular file, or left its folder; TooLarge.
    """
    with _opened(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > max_bytes:
            raise _too_large(file, size, max_bytes)
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise _too_large(file, len(data), max_bytes)
    return data


def read_head(file: SourceFile, size: int) -> bytes:
    """The first `size` bytes of a file. Blocking disk read. Raises: InvalidInput, as `read_file`."""
    with _opened(file) as stream:
        return stream.read(size)


@contextmanager
def _opened(file: SourceFile) -> Iterator[BinaryIO]:
    if file.error is not None:
        raise file.error
    try:
        # The link was checked; what it points to must not be a link again, nor a pipe that would block.
        handle = os.open(file.path.resolve(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InvalidInput(f"{file.source!r} is no regular file", param=file.source)
            yield stream
    except OSError as error:
        raise InvalidInput(
            f"the file {file.source!r} cannot be read: {error.strerror}", param=file.source, code="unreadable_file"
        ) from error


def _too_large(file: SourceFile, size: int, limit: int) -> TooLarge:
    return TooLarge(
        f"the file {file.source!r} has {size} bytes, more than {limit}",
        param=file.source,
        hint="split it, or raise knowledge.max_file_bytes",
    )
