"""Variables of an app's prompt as fields of a form: one each, with its type, and its fault beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from interlock.core.errors import InterlockError, InvalidInput
from interlock.prompts.types import VariableSpec
from interlock.prompts.variables import FIELD, value_from_text

__all__ = ["VariableField", "field_of_error", "text_of_value", "typed_texts", "values_of", "variable_fields"]

_PREFIX = "var."


class VariableField(NamedTuple):
    """One field."""

    name: str
    spec: VariableSpec
    text: str
    """As it was typed."""
    error: str
    """What is wrong with it; empty where nothing is known to be."""

    @property
    def type_told(self) -> str:
        """Its type for people, with its bounds."""
        spec = self.spec
        told = {"list": "list, as YAML or JSON", "object": "object, as YAML or JSON", "integer": "whole number"}
        told |= {"enum": "one of these", "boolean": "true or false", "string": "text"}
        bounds = [
            *([f"from {spec.minimum:g}"] if spec.minimum is not None else []),
            *([f"to {spec.maximum:g}"] if spec.maximum is not None else []),
            *([f"at least {spec.min_length:,} characters"] if spec.min_length else []),
            *([f"at most {spec.max_length:,} characters"] if spec.max_length is not None else []),
        ]
        return ", ".join([told.get(spec.type, spec.type), *bounds])

    @property
    def default_told(self) -> str:
        """What holds where it is left empty; nothing where nothing does."""
        return "" if self.spec.default is None else text_of_value(self.spec.default)


def typed_texts(form: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What was typed into fields of variables, by the variable's name."""
    return {
        name.removeprefix(_PREFIX): texts[-1].replace("\r\n", "\n")
        for name, texts in form.items()
        if name.startswith(_PREFIX)
    }


def values_of(declared: Mapping[str, VariableSpec], typed: Mapping[str, str]) -> dict[str, object]:
    """Values for a request. An empty field is none; one of another app's prompt is left alone.

    Raises: InvalidInput naming the variable: what was typed cannot be read as its type.
    """
    found: dict[str, object] = {}
    for name, spec in declared.items():
        text = typed.get(name, "")
        if not text.strip():
            continue
        try:
            found[name] = value_from_text(spec, text)
        except InvalidInput as error:
            raise InvalidInput(f"the variable {name!r} is no YAML", param=f"{FIELD}.{name}", hint="quote it") from error
    return found


def variable_fields(
    declared: Mapping[str, VariableSpec], typed: Mapping[str, str], error: InterlockError | None = None
) -> list[VariableField]:
    """Fields in the order in which the prompt declares its variables."""
    wrong = field_of_error(error)
    return [
        VariableField(name, spec, typed.get(name, ""), error.message if error is not None and name == wrong else "")
        for name, spec in declared.items()
    ]


def field_of_error(error: InterlockError | None) -> str:
    """The variable that an error is about; empty where it is about none."""
    param = "" if error is None else error.param or ""
    return param.removeprefix(f"{FIELD}.").partition(".")[0] if param.startswith(f"{FIELD}.") else ""


def text_of_value(value: JsonValue) -> str:
    """A value as one would type it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
