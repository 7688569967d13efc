"""Conditions on what is known of a release, in CEL (https://cel.dev). Pure; needs `interlock[policy]`.

A condition is true or false of `evidence` and `release`, and can do nothing else: CEL has no loops, no assignments and
no way out. What it may cost is bounded when it is read: its length, and two comprehensions at most, over lists that are
bounded too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

if TYPE_CHECKING:
    from cel import Program

    from interlock.releases.promotion import Evidence

__all__ = ["KINDS", "Condition", "Outcome", "facts", "read", "tried"]

# Any in this module: values that an expression reads and gives.

_LONGEST = 1_000
_COMPREHENSIONS = 2
_MOST = 100
"""Pieces of evidence of one kind, and signatures, that an expression sees: the newest."""
_KNOWN = {"evidence", "release"}
_MACRO = re.compile(r"\.\s*(all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")
_PATH = re.compile(
    r"\b(?:evidence|release)(?:\s*\.\s*[A-Za-z_]\w*\b(?!\s*\()|\s*\[\s*(?:\"[^\"]*\"|'[^']*'|\d+)\s*\])+"
)
_PLACE = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")
KINDS = (
    *("evaluation", "red_team", "load", "cost_forecast", "experiment", "replay"),
    *("lint", "prompt_tests", "consumers"),
)
_FIELDS = {"evidence": (*KINDS, "sign_offs"), "release": ("app", "id", "built_by")}
_FUNCTIONS = frozenset(
    {
        "size",
        "contains",
        "startsWith",
        "endsWith",
        "matches",
        "int",
        "uint",
        "double",
        "string",
        "duration",
        "timestamp",
    }
)


class Condition(BaseModel):
    """One thing that has to be true of a release."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(description="what people are told")
    that: str = Field(
        min_length=1, max_length=_LONGEST, description="CEL over `evidence` and `release` that is true or false"
    )
    hint: str = Field(default="", max_length=500, description="what to do where it is not met")

    @field_validator("that")
    @classmethod
    def _is_cel(cls, said: str) -> str:
        read(said)
        return said


class Outcome(NamedTuple):
    """What a condition says of one release."""

    state: Literal["met", "failed", "open"]
    why: str
    values: Mapping[str, Any]
    """What it has read, by path; None for what is not there."""


@lru_cache(maxsize=256)
def read(expression: str) -> Program:
    """The expression, ready to be asked.

    Raises: ValueError: it is no CEL (naming line and column), reads a name that does not exist, has more than two
        comprehensions, or the library is not installed.
    """
    try:
        import cel
    except ModuleNotFoundError as error:
        raise ValueError("conditions in CEL need pip install 'interlock[policy]'") from error
    try:
        program = cel.compile(expression)
    except ValueError as error:
        place = _PLACE.search(str(error))
        told = f"line {place[1]}, column {place[2]}: {place[3]}" if place else "it cannot be read"
        raise ValueError(f"no CEL in {told[:300]}") from error
    bound = _MACRO.findall(expression)
    if len(bound) > _COMPREHENSIONS:
        raise ValueError(f"more than {_COMPREHENSIONS} of all, exists, exists_one, map and filter")
    unknown = sorted(set(program.variables()) - _KNOWN - {name for _, name in bound})
    if unknown:
        raise ValueError(f"there is no {unknown[0]!r}: a condition reads `evidence` and `release`")
    if foreign := sorted(name for name in program.functions() if name[0].isalpha() and name not in _FUNCTIONS):
        raise ValueError(f"there is no function {foreign[0]!r}")
    for path in _paths(expression):
        root, kind = [*re.findall(r"\w+", path), ""][:2]
        if kind not in _FIELDS[root]:
            raise ValueError(f"there is no {path!r}: {root} has {', '.join(_FIELDS[root])}")
    return program


def facts(evidence: Sequence[Evidence], *, built_by: str, at: datetime, app: str, release: str) -> dict[str, Any]:
    """What expressions see: of each kind and name the newest piece of evidence, with its figures and its age."""
    kinds: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    signatures: list[dict[str, Any]] = []
    for each in sorted(evidence, key=lambda each: each.at):
        told = {"verdict": each.verdict, "by": each.by, "age_days": (at - each.at).total_seconds() / 86_400}
        if each.kind == "sign_off":
            signatures.append({**told, "role": each.name})
            continue
        runs = kinds[each.kind].get(each.name, {}).get("runs", 0)
        kinds[each.kind].pop(each.name, None)
        kinds[each.kind][each.name] = {**_nested(each.summary), **told, "runs": runs + 1}
    newest = {kind: dict(list(named.items())[-_MOST:]) for kind, named in kinds.items()}
    return {
        "evidence": {**newest, "sign_offs": signatures[-_MOST:]},
        "release": {"app": app, "id": release, "built_by": built_by},
    }


def tried(condition: Condition, known: Mapping[str, Any]) -> Outcome:
    """What a condition says of a release that is known by `facts`."""
    values = {path: _value(path, known) for path in _paths(condition.that)}
    absent = [path for path, value in values.items() if value is None]
    try:
        result = read(condition.that).execute(dict(known))
    except (KeyError, IndexError):
        told = f"it reads {absent[0]}, which is not there yet" if absent else "it reads what is not there yet"
        return Outcome("open", told, values)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        return Outcome("failed", f"it cannot be asked: {type(error).__name__} ({_told(values)})", values)
    if not isinstance(result, bool):
        return Outcome("failed", f"it gives a {type(result).__name__}, and not true or false", values)
    return Outcome("met" if result else "failed", _told(values), values)


def _told(values: Mapping[str, Any]) -> str:
    shown = [f"{path} is {_shown(value)}" for path, value in values.items()]
    return ", ".join(shown)[:500] or "it reads nothing"


def _shown(value: Any) -> str:
    if value is None:
        return "not there"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{len(value)} of them" if isinstance(value, dict | list) else str(value)


def _paths(expression: str) -> list[str]:
    # What has() asks for is named as everything else is.
    return list(dict.fromkeys(re.sub(r"\s+", "", found) for found in _PATH.findall(_without_text(expression))))


def _without_text(expression: str) -> str:
    """The expression without texts that are compared with: a path in quotes is none."""
    return re.sub(r"(?<!\[)(\"[^\"]*\"|'[^']*')(?!\s*\])", '""', expression)


def _value(path: str, known: Mapping[str, Any]) -> Any:
    at: Any = known
    for step in re.findall(r"[A-Za-z_]\w*|\"[^\"]*\"|'[^']*'|\d+", path):
        key = step.strip("\"'")
        if isinstance(at, list):
            at = at[int(key)] if key.isdigit() and int(key) < len(at) else None
        else:
            at = at.get(key) if isinstance(at, Mapping) else None
        if at is None:
            return None
    return at


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``mean.exact`` as ``mean`` of ``exact``; where a name is both a value and a group, the group stays."""
    found: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, last = name.split(".")
        at = found
        for group in groups:
            inner = at.get(group)
            at[group] = inner if isinstance(inner, dict) else {}
            at = at[group]
        if not isinstance(at.get(last), dict):
            at[last] = value
    return found
