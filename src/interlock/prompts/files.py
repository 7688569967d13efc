"""Prompt files: the prompt itself, and all that it is made of: partials, texts for certain models, few-shot examples.

A partial is ``{% include "partials/x.md" %}``, from the workspace's folder of prompts and nowhere else. A text for
certain models stands beside the prompt (``prompt.claude.md`` with ``models:`` in its head) or is named by it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from interlock.core.canonical import digest_json
from interlock.core.errors import InvalidInput, NotFound, TooLarge
from interlock.core.wording import first, told
from interlock.core.yaml_text import YamlFault, read_yaml
from interlock.prompts.rendering import names_in, references
from interlock.prompts.types import BUILT_IN, Example, ExamplesSpec, FrontMatter, PromptSpec, VariantSpec

__all__ = ["Loaded", "Shelf", "load_prompt", "text_digest"]

_MOST_BYTES = 1 << 20
_MOST_ROWS = 2000
_PARTIAL = re.compile(r"partials/[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}\Z")
_DEEPEST = 8


def text_digest(text: str) -> str:
    """Digest of one file's text; empty for a file that is not there."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""


@dataclass(slots=True)
class Shelf:
    """The files of a workspace, some of them as a draft has them.

    Blocking; the files are small.
    """

    root: Path
    """The workspace."""
    folder: Path
    """Its prompts: partials, and prompts that several apps share."""
    drafted: Mapping[str, str] = field(default_factory=dict)
    """Path below `root` to the text that stands for the file's own."""
    read: dict[str, str] = field(default_factory=dict)
    """What was read, by its path below `root`."""

    def name(self, path: Path) -> str:
        """Its path below the workspace; the whole one where it is elsewhere."""
        at, root = path.resolve(), self.root.resolve()
        return (at.relative_to(root) if at.is_relative_to(root) else at).as_posix()

    def named(self, prompt: Path, file: str, suffix: str) -> Path:
        """A file that a prompt names: beside it or below, or in the folder of prompts.

        Raises: InvalidInput: it is elsewhere, where a prompt must not read.
        """
        at = (prompt.parent / file).resolve()
        homes = (prompt.parent.resolve(), self.folder.resolve())
        if at.suffix != suffix or not any(at.is_relative_to(home) for home in homes):
            raise InvalidInput(
                f"{prompt.name!r} names {file[:200]!r}",
                param="prompt",
                hint=f"a file {suffix} beside the prompt, or in {self.folder.name}/",
            )
        return prompt.parent / file

    def text(self, path: Path, what: str = "prompt file") -> str:
        """One file. Raises: NotFound; InvalidInput: it is no text, or outside; TooLarge."""
        name = self.name(path)
        if name in self.drafted:
            self.read[name] = self.drafted[name]
            return self.drafted[name]
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise TooLarge(f"the {what} {path.name!r} is over {_MOST_BYTES >> 20} MiB", param="prompt")
            text = path.read_text("utf-8")
        except FileNotFoundError as error:
            raise NotFound(f"there is no {what} {path.name!r}", param="prompt") from error
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the {what} {path.name!r} cannot be read as UTF-8 text", param="prompt") from error
        self.read[name] = text
        return text

    def beside(self, path: Path) -> list[Path]:
        """Files ``STEM.*.md`` in the folder of ``STEM.md``, drafted ones too, by name."""
        found = set(path.parent.glob(f"{path.stem}.*{path.suffix}"))
        prefix = path.parent.resolve()
        for name in self.drafted:
            at = self.root.resolve() / name
            if at.parent == prefix and at.name.startswith(f"{path.stem}.") and at.suffix == path.suffix:
                found.add(path.parent / at.name)
        return sorted(each for each in found if each.name != path.name)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A prompt, read whole."""

    spec: PromptSpec
    front: FrontMatter
    main: str
    """Path of the prompt below the workspace."""
    files: Mapping[str, str]
    """Everything it was read from, by path below the workspace."""

    @property
    def digest(self) -> str:
        """Of the component: what releases pin."""
        return digest_json(self.spec.component())


def load_prompt(path: Path, shelf: Shelf | None = None) -> Loaded:
    """Read a prompt file and all that it names.

    Raises: NotFound; InvalidInput naming the file and the field: a wrong head, a template's mistake, a partial that is
        not there or outside the folder of prompts, a variable that nobody declared, examples that are no JSONL.
    """
    shelf = shelf or Shelf(path.parent, path.parent / "prompts")
    front, body = _parts(shelf, path)
    spec = PromptSpec(
        system=body,
        title=front.title,
        description=front.description,
        variables=front.variables,
        format=front.format,
        passages=front.passages,
        examples=_examples(shelf, path, front),
        variants=_variants(shelf, path, front),
    )
    # The environment depends on how values are escaped, so the syntax is looked at with everything else in place.
    partials: dict[str, str] = {}
    _gather(shelf, spec, partials, ("the prompt's template", body))
    for each in spec.variants:
        _gather(shelf, spec, partials, (f"the variant {each.name!r}", each.system))
    spec = spec.model_copy(update={"partials": dict(sorted(partials.items()))})
    if spec.escapes is not None or spec.partials:
        _check_names(path, spec)
    return Loaded(spec, front, shelf.name(path), dict(sorted(shelf.read.items())))


def _parts(shelf: Shelf, path: Path) -> tuple[FrontMatter, str]:
    """The head and the template of one file."""
    text = shelf.text(path)
    head: Any = {}  # Any: YAML before validation
    body = text
    if text.startswith("---\n") and "\n---\n" in text:
        front, _, body = text[3:].partition("\n---\n")
        try:
            head = read_yaml(front) or {}
        except YamlFault as error:
            raise InvalidInput(f"the front matter of {path.name!r} is not YAML", param="prompt") from error
    if not isinstance(head, dict):
        raise InvalidInput(f"the front matter of {path.name!r} is not a mapping", param="prompt")
    try:
        found = FrontMatter.model_validate(head)
    except ValidationError as error:
        fault = first(error)
        where = ".".join(str(step) for step in fault["loc"])
        raise InvalidInput(
            f"the front matter of {path.name!r} has an unknown or wrong field: {where}: {told(FrontMatter, fault)}",
            param=where or "prompt",
        ) from error
    if len(body) > 200_000:
        raise InvalidInput(f"the prompt {path.name!r} has at most 200,000 characters", param="prompt")
    return found, body.strip()


def _gather(
    shelf: Shelf, spec: PromptSpec, found: dict[str, str], template: tuple[str, str], *, depth: int = 0
) -> None:
    """Add the partials that a template (what it is, its text) includes, and those that they include."""
    what, source = template
    if depth > _DEEPEST:
        raise InvalidInput(f"{what} includes itself, or more than {_DEEPEST} deep", param="partials")
    for name in references(spec, source, what):
        if name not in found:
            if not _PARTIAL.match(name) or ".." in name.split("/"):
                raise InvalidInput(
                    f"{what} includes {name[:80]!r}, which is no partial",
                    param="partials",
                    hint=f'put it into {shelf.folder.name}/partials/ and write {{% include "partials/NAME.md" %}}',
                )
            at = shelf.folder / name
            if not at.resolve().is_relative_to(shelf.folder.resolve()):
                raise InvalidInput(f"the partial {name!r} is a link to somewhere else", param="partials")
            found[name] = shelf.text(at, "partial").rstrip("\n")
        _gather(shelf, spec, found, (f"the partial {name!r}", found[name]), depth=depth + 1)


def _check_names(path: Path, spec: PromptSpec) -> None:
    allowed = {*BUILT_IN, "examples", *spec.variables}
    sources = {
        f"{path.name!r}": spec.system,
        **{f"the variant {each.name!r}": each.system for each in spec.variants},
        **{f"the partial {name!r}": text for name, text in spec.partials.items()},
    }
    for what, source in sources.items():
        for name in sorted(names_in(spec, source) - allowed):
            raise InvalidInput(
                f"{what} uses the variable {name!r}, which is not declared",
                param=f"variables.{name}",
                hint=f"declare it under variables, or use one of {', '.join(sorted(allowed))}",
            )


def _examples(shelf: Shelf, path: Path, front: FrontMatter) -> ExamplesSpec | None:
    wanted = front.examples
    if wanted is None:
        return None
    if wanted.select == "tag" and not wanted.tags and wanted.tag_from is None:
        raise InvalidInput("examples are chosen by tag: say which, by `tags` or `tag_from`", param="examples.tags")
    if wanted.tag_from is not None and wanted.tag_from not in front.variables:
        raise InvalidInput(f"tag_from names {wanted.tag_from!r}, which is no variable", param="examples.tag_from")
    rows: list[Example] = []
    text = shelf.text(shelf.named(path, wanted.file, ".jsonl"), "file of examples")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(Example.model_validate(json.loads(line)))
        except ValueError as error:
            where = ""
            if isinstance(error, ValidationError):
                fault = first(error)
                where = f": {'.'.join(str(step) for step in fault['loc'])}: {told(Example, fault)}"
            raise InvalidInput(
                f"line {number} of {wanted.file!r} is no example{where}",
                param="examples.file",
                hint='a line is {"input": "…", "output": "…", "tags": [], "id": ""}',
            ) from error
    if not 0 < len(rows) <= _MOST_ROWS:
        raise InvalidInput(f"{wanted.file!r} holds 1 to {_MOST_ROWS} examples, not {len(rows)}", param="examples.file")
    return ExamplesSpec(rows=rows, **wanted.model_dump(exclude={"file"}, exclude_defaults=True))


def _variants(shelf: Shelf, path: Path, front: FrontMatter) -> list[VariantSpec]:
    """Those that the head names in its order, then those beside the prompt by name."""
    found: list[VariantSpec] = []
    named: set[Path] = set()
    for each in front.variants:
        at = shelf.named(path, each.file, ".md")
        named.add(at.resolve())
        _, body = _parts(shelf, at)
        found.append(VariantSpec(name=each.name, models=each.models, system=body))
    for at in shelf.beside(path):
        if at.resolve() in named or at.is_symlink():
            continue
        text = shelf.text(at)
        # What merely lies there is nobody's variant.
        if text.startswith("---\n") and re.search(r"^models:", text.partition("\n---\n")[0], re.MULTILINE):
            inner, body = _parts(shelf, at)
            name = at.name.removeprefix(f"{path.stem}.").removesuffix(at.suffix)
            found.append(VariantSpec(name=name, models=list(inner.models or ()), system=body))
        else:
            shelf.read.pop(shelf.name(at))
    return _distinct(found)


def _distinct(found: Sequence[VariantSpec]) -> list[VariantSpec]:
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"two variants are called {name!r}", param="variants")
    return list(found)
