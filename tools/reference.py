"""Write the pages of docs/reference that are made from the code. `--check` only says whether they are up to date."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from interlock.cli.root import cli
from interlock.config import Settings
from interlock.evals.formats import formats
from interlock.evals.metrics import about, metrics
from interlock.evals.ports import Derived
from interlock.knowledge.connectors import connectors
from interlock.knowledge.connectors._sites import OAuth
from interlock.knowledge.external.settings import Credentials, ExternalIndex, FieldNames, MetadataField, Vectors
from interlock.knowledge.sources import Source
from interlock.prompts.linting import rules

DOCS = Path(__file__).parent.parent / "docs" / "reference"


def command_line() -> str:
    """Every command with its arguments and options."""
    lines = ["# Command line", "", "Made by `python tools/reference.py`. Every command takes `-h`.", ""]

    def walk(command: click.Command, path: str) -> None:
        ctx = click.Context(command, info_name=path)
        if isinstance(command, click.Group):
            if path != "interlock":
                lines.extend([f"## `{path}`", "", command.get_short_help_str(200), ""])
            for name in command.list_commands(ctx):
                child = command.get_command(ctx, name)
                assert child is not None
                walk(child, f"{path} {name}")
            return
        usage = " ".join(command.collect_usage_pieces(ctx))
        lines.extend([f"### `{path} {usage}`".replace(" [OPTIONS]", ""), "", (command.help or "").strip(), ""])
        options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        if options:
            for option in options:
                names = ", ".join([*option.opts, *option.secondary_opts])
                lines.append(f"- `{names}`: {option.help or ''}".rstrip(": "))
            lines.append("")

    walk(cli, "interlock")
    return "\n".join(lines).rstrip() + "\n"


def prompt_rules() -> str:
    """Every rule for prompts with its reason and its remedy."""
    lines = [
        "# Rules for prompts",
        "",
        "Made by `python tools/reference.py`. What `interlock prompt lint`, the console's editor and",
        "`interlock release build` look for: the standard that system messages are held to. How to use them,",
        "and how to say otherwise for an app or a workspace: [prompts](../how-to/prompts.md#look-prompts-over).",
        "A rule that is `off` is asked for by name.",
        "",
        "| Rule | Counts as | Finds | Why | Remedy |",
        "|---|---|---|---|---|",
    ]
    for name in rules.names():
        rule = rules.get(name)
        told = (importlib.import_module(f"interlock.prompts.rules.{name}").__doc__ or "").strip().removesuffix(".")
        cells = [f"`{name}`", rule.severity, told, rule.reason, rule.remedy]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def settings() -> str:
    """Every setting with its default and meaning."""
    lines = [
        "# Settings",
        "",
        "Made by `python tools/reference.py`. Set them in `interlock.yaml`, in the environment as",
        "`INTERLOCK_SECTION__NAME`, or by `interlock --set section.name=value`; later ones win.",
        "`interlock config show` says where each value came from. `NAME` is a name of yours, `[]` each entry",
        "of a list; what ends in `_s` is in seconds.",
        "",
        "| Setting | Default | Meaning |",
        "|---|---|---|",
    ]

    nameless: list[str] = []

    def walk(model: type[BaseModel], prefix: str) -> None:
        told = _docstrings(model)
        for name, field in model.model_fields.items():
            kind, at = _inner(field.annotation)
            if kind is not None and not at:
                walk(kind, f"{prefix}{name}.")
                continue
            said = field.description or told.get(name, "")
            meaning = " ".join(filter(None, [said, _bounds(field)]))
            if not said:
                nameless.append(f"{prefix}{name}")
            lines.append(f"| `{prefix}{name}` | {_default(field)} | {meaning} |")
            if kind is not None:
                walk(kind, f"{prefix}{name}{at.removeprefix(_OPTIONAL)}.")

    walk(Settings, "")
    if nameless:
        raise SystemExit(f"settings without a meaning: {', '.join(nameless)}; give their fields a description")
    return "\n".join(lines) + "\n"


def sources() -> str:
    """Every kind of source with its fields."""
    lines = [
        "# Kinds of sources",
        "",
        "Made by `python tools/reference.py`: the fields of an entry under `sources` in `knowledge/NAME.yaml`, by its",
        "`kind`. How to use them: [sources](../how-to/sources.md). Instead of `sources` there may be an `index`:",
        "[an index you have](../how-to/search-an-index-you-have.md).",
    ]
    shared = set(Source.model_fields)
    kinds: list[tuple[str, type[BaseModel], set[str]]] = [("Every kind", Source, set())]
    kinds += [(f"`kind: {name}`", connectors.get(name).model, shared) for name in connectors.names()]
    for title, model, known in kinds:
        said = " ".join((model.__doc__ or "").split()).replace("``", "`")
        lines += ["", f"## {title}", "", said, "", "| Field | Default | Meaning |", "|---|---|---|"]
        told: dict[str, str] = {}
        for base in reversed(model.__mro__):
            if issubclass(base, BaseModel) and base is not BaseModel and base.__module__.startswith("interlock."):
                told |= _docstrings(base)
        for name, field in model.model_fields.items():
            is_own = name not in known or field.annotation != Source.model_fields[name].annotation
            if name in {"kind", *([] if is_own else known)}:
                continue
            if not told.get(name):
                raise SystemExit(f"the field {name!r} of {title} has no meaning; give it a description")
            meaning = " ".join(filter(None, [told[name], _bounds(field)])).replace("|", "\\|")
            lines.append(f"| `{name}` | {_default_of_source(field)} | {meaning} |")
    lines += [
        "",
        "## `oauth`",
        "",
        " ".join((OAuth.__doc__ or "").split()),
        "",
        "| Field | Default | Meaning |",
        "|---|---|---|",
    ]
    told = _docstrings(OAuth)
    lines += [
        f"| `{name}` | {_default_of_source(field)} | {told[name]} |" for name, field in OAuth.model_fields.items()
    ]
    lines += _index()
    return "\n".join(lines) + "\n"


def evaluation_metrics() -> str:
    """Every metric of evaluations with its options, and every format of case files."""
    lines = [
        "# Metrics and case formats",
        "",
        "Made by `python tools/reference.py`. Their use: [evaluate](../how-to/evaluate.md). `binary` is 0 or 1,",
        "`unit` lies in 0 to 1, `real` is any number. A metric that does not apply to a case gives no value.",
    ]
    for name in metrics.names():
        metric = metrics.get(name)
        kind = f"`{metric.scale}`, {metric.better} is better"
        if isinstance(metric, Derived):
            kind += (
                f", of another metric's values over {'repeats' if metric.over == 'repeats' else 'the cases of a pair'}"
            )
        elif metric.needs:
            kind += f", needs {' and '.join(sorted(metric.needs))}"
        module = sys.modules.get(f"interlock.evals.metrics.{name}")
        whole = (module.__doc__ if module else None) or about(name)
        told = [" ".join(each.split()) for each in whole.strip().split("\n\n")]
        lines += [
            "",
            f"## `{name}`",
            "",
            *(line for each in told for line in (each, "")),
            f"{kind[0].upper()}{kind[1:]}.",
        ]
        if metric.source:
            lines[-1] += f" After: {metric.source}."
        fields = metric.options.model_fields
        if fields:
            lines += ["", "| Option | Default | Meaning |", "|---|---|---|"]
        for field, info in fields.items():
            meaning = " ".join(filter(None, [info.description, _bounds(info)])).replace("|", "\\|")
            lines.append(f"| `{info.alias or field}` | {_default_of_source(info)} | {meaning} |")
    lines += ["", "## Formats of case files", "", "| `format` | |", "|---|---|"]
    for name in formats.names():
        formats.get(name)
        told = (sys.modules[f"interlock.evals.formats.{name}"].__doc__ or "").strip().split("\n\n")
        lines.append(f"| `{name}` | {' '.join(' '.join(told).split())} |")
    return "\n".join(lines) + "\n"


def _index() -> list[str]:
    """The fields of ``index``, and of what stands below it."""
    lines: list[str] = []
    models: list[tuple[str, type[BaseModel]]] = [
        ("index", ExternalIndex),
        ("index.auth", Credentials),
        ("index.fields", FieldNames),
        ("index.fields.metadata", MetadataField),
        ("index.vector", Vectors),
    ]
    for title, model in models:
        said = " ".join((model.__doc__ or "").split()).replace("``", "`")
        lines += ["", f"## `{title}`", "", said, "", "| Field | Default | Meaning |", "|---|---|---|"]
        told = _docstrings(model)
        for name, field in model.model_fields.items():
            meaning = " ".join(filter(None, [told.get(name, ""), _bounds(field)])).replace("|", "\\|")
            lines.append(f"| `{name}` | {_default_of_source(field)} | {meaning} |")
    return lines


def _default_of_source(field: FieldInfo) -> str:
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    if isinstance(value, timedelta):
        days = value // timedelta(days=1)
        return f"`{days}d`" if days else f"`{int(value.total_seconds())}s`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`" if value else ""
    if value in ("", {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f"`{value}`"
    return _default(field)


def _inner(annotation: object) -> tuple[type[BaseModel] | None, str]:
    """The model inside an annotation, and what stands between the setting and the model's fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return _inner(args[1])[0], ".NAME"
    if origin is list:
        return _inner(args[0])[0], "[]"
    if origin in {Union, UnionType}:
        found = [one for one in args if one is not type(None)]
        if len(found) == 1:
            kind, at = _inner(found[0])
            # The section itself may be left out.
            return kind, at or ("" if kind is None else _OPTIONAL)
    return None, ""


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """First sentences of the strings that stand under fields."""
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(found, ast.ClassDef), "a model is a class"
    told = {}
    for field, after in pairwise(found.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            text = " ".join(str(after.value.value).split()).replace("``", "`").removesuffix(".")
            told[field.target.id] = text[:1].lower() + text[1:] if text[:2] != text[:2].upper() else text
    return told


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None or (isinstance(default, (list, dict)) and (not default or _inner(field.annotation)[0])):
        return ""
    return f"`{str(default) if isinstance(default, Path) else default!r}`"


_OPTIONAL = "?"
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _bounds(field: FieldInfo) -> str:
    """``(0 to 10)`` of a number with bounds."""
    found = {
        name: value for one in field.metadata for name in _BOUNDS if (value := getattr(one, name, None)) is not None
    }
    if not found:
        return ""
    if set(found) == {"ge", "le"}:
        return f"({found['ge']:,} to {found['le']:,})"
    return "(" + ", ".join(f"{_BOUNDS[name]} {value:,}" for name, value in found.items()) + ")"


def main() -> int:
    """Write or check the pages."""
    stale = []
    pages = {
        "cli.md": command_line(),
        "metrics.md": evaluation_metrics(),
        "prompt-rules.md": prompt_rules(),
        "settings.md": settings(),
        "sources.md": sources(),
    }
    for name, text in pages.items():
        path = DOCS / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_text("utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, "utf-8")
    if stale:
        print(f"out of date: {', '.join(stale)}; run: python tools/reference.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
