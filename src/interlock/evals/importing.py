"""Other tools' tests as a suite of ours: a suite file, its cases beside it, and a list of what was left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml
from pydantic import ValidationError

from interlock.core.errors import Conflict, InvalidInput, NotFound
from interlock.evals.formats import formats
from interlock.evals.ports import SuiteFormat
from interlock.evals.suite import Suite, read_suite
from interlock.evals.types import Case

__all__ = ["Imported", "import_suite"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What was written."""

    suite: Suite
    cases_file: Path
    left_out: tuple[str, ...]


def import_suite(
    source: Path, form: str, out: Path, *, replace: bool = False, variables: Sequence[str] = ()
) -> Imported:
    """Read `source`, write the suite `out` and its cases beside it, and read both back.

    Args:
        variables: values of the other tool's tests that are variables of the app's prompt: what promptfoo fills in by
            this name, a field of another tool's input or of its metadata.

    Raises: NotFound; Conflict: a file is there already; InvalidInput naming line and field.
    """
    if not source.is_file():
        raise NotFound(f"there is no file {source.name!r}", param="file")
    if out.suffix.lower() not in {".yaml", ".yml"}:
        raise InvalidInput("a suite is a YAML file", param="out", hint="--out suite.yaml")
    beside = out.with_name(f"{out.name.removesuffix(out.suffix).removesuffix('.suite')}.cases.jsonl")
    for place in (out, beside):
        if place.exists() and not replace:
            raise Conflict(f"{place.name!r} is there already", param="out", hint="--replace writes over it")
    plugin = formats.get(form)
    description = ""
    left_out: tuple[str, ...] = ()
    measured: list[Any] = []  # Any: as a suite's file has it
    if isinstance(plugin, SuiteFormat):
        told = plugin.suite(source)
        description, left_out, measured = told.description, told.left_out, [dict(each) for each in told.metrics]
        rows = [(str(fields.get("id")), fields) for fields in told.cases]
    else:
        rows = [(place, dict(fields)) for place, fields in plugin.read(source)]
    cases = []
    for where, fields in rows:
        try:
            cases.append(Case.model_validate({**fields, **_variables(fields, variables)}))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"])) or "case"
            raise InvalidInput(f"{where} of {source.name!r}: {field}: {first['msg']}", param=field) from error
    if not cases:
        raise InvalidInput(f"{source.name!r} holds no cases", param="file")
    for name in variables:
        if not any(name in case.variables for case in cases):
            raise InvalidInput(f"no test of {source.name!r} has a value called {name!r}", param="variable")
    spec = {
        "suite": _name(out),
        **({"description": description} if description else {}),
        "cases": [{"file": beside.name}],
        "metrics": measured or _suggested(cases),
    }
    lines = [msgspec.json.encode(case.model_dump(mode="json", by_alias=True, exclude_defaults=True)) for case in cases]
    out.parent.mkdir(parents=True, exist_ok=True)
    beside.write_bytes(b"".join(line + b"\n" for line in lines))
    out.write_text(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True), "utf-8")
    return Imported(read_suite(out), beside, left_out)


def _variables(fields: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The field `variables` of a case, from what its format keeps as metadata."""
    if not names:
        return {}
    metadata = fields.get("metadata") or {}
    filled = metadata.get("vars")
    known = {**metadata, **(filled if isinstance(filled, dict) else {}), **fields.get("variables", {})}
    found = {}
    for name in names:
        place = name if name in known else f"input.{name}"
        if known.get(place) is not None:
            found[name] = known[place]
    return {"variables": found} if found else {}


def _name(out: Path) -> str:
    plain = re.sub(r"[^a-z0-9_.-]+", "-", out.name.split(".")[0].casefold()).strip("-._")
    return plain[:64] or "imported"


def _suggested(cases: Sequence[Case]) -> list[Any]:
    """Metrics that have something to measure by."""
    found: list[Any] = []
    if any(case.facts for case in cases):
        found.append("facts")
    if any(case.references for case in cases):
        found += [{"metric": "exact", "options": {"normalise": True}}, "token_f1"]
    if any(isinstance(case.expected, (dict, list)) for case in cases):
        found.append("json_fields")
    if any(case.calls is not None for case in cases):
        found += ["tool_choice", "tool_arguments"]
    if any(case.answerable is not None or case.harmful is not None for case in cases):
        found.append("declines")
    if any(case.relevant for case in cases):
        found += ["recall", "ndcg"]
    return found or ["latency"]
