"""The answer is JSON that is valid against a schema."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from interlock.core.errors import InvalidInput
from interlock.evals.metrics._json import json_in
from interlock.evals.metrics._library import library
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """Which schema."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    json_schema: dict[str, JsonValue] | None = Field(
        default=None, alias="schema", description="the schema itself; draft 2020-12 unless its $schema says otherwise"
    )
    file: str | None = Field(default=None, description="a file with the schema, beside the suite")
    fenced: bool = Field(default=True, description="a code block in the answer is as good as the answer")

    @model_validator(mode="after")
    def _is_a_schema(self) -> Options:
        if self.json_schema is not None and self.file is not None:
            raise ValueError("give schema or file, not both")
        if self.json_schema is not None and find_spec("jsonschema") is not None:
            _checked(self.json_schema)
        return self


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """1 when it is. References to schemas elsewhere are not followed."""
    schema: Any = options.json_schema  # Any: a JSON schema
    if options.file is not None:
        schema = _from_file(options.file, instruments)
    if schema is None:
        return Score(None, "neither the suite nor the case gives a schema")
    parsed = json_in(output.text, fenced=options.fenced)
    if not parsed.found:
        return Score(0.0, "no JSON")
    jsonschema, referencing = library("jsonschema"), library("referencing")
    made = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    # A registry of its own keeps the library from fetching references over the network.
    validator = made(schema, registry=referencing.Registry())
    try:
        fault = next(validator.iter_errors(parsed.value), None)
    except referencing.exceptions.Unresolvable as error:
        return Score(None, "the schema refers to one that is not in it", error=type(error).__name__)
    except RecursionError:
        return Score(0.0, "nested too deeply")
    return Score(1.0) if fault is None else Score(0.0, f"breaks {fault.validator!r} at {_place(fault.schema_path)}")


def _place(path: Any) -> str:
    return "/".join(map(str, path))


def _checked(schema: Any) -> None:
    jsonschema = library("jsonschema")
    try:
        jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"it is no JSON schema: {_place(error.path) or 'the whole of it'}: {error.message}") from error


def _from_file(name: str, instruments: Instruments) -> Any:
    if instruments.workspace is None:
        raise InvalidInput("the schema's file is looked for beside a suite, and there is none", param="file")
    place = (instruments.workspace / name).resolve()
    if not place.is_relative_to(instruments.workspace.resolve()):
        raise InvalidInput(f"{name!r} lies outside the suite's folder", param="file")
    try:
        schema = json.loads(place.read_text("utf-8"))
        _checked(schema)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{name!r} cannot be read as a JSON schema", param="file") from error
    return schema


plugin = Metric(Options, "binary", score, libraries=("jsonschema",), source="jsonschema (Python)")
