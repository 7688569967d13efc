"""The component `prompt` of a release, and what a prompt file says in its front matter."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, field_validator, model_validator

__all__ = [
    "BUILT_IN",
    "Example",
    "ExamplesFile",
    "ExamplesSpec",
    "Format",
    "FrontMatter",
    "PassageFormat",
    "PromptSpec",
    "Selection",
    "Variable",
    "VariableSpec",
    "VariantFile",
    "VariantSpec",
]

Variable = Literal["app", "today", "user", "groups"]
"""What a template may always use. `today` is an ISO date; `user` is the end user's id or an empty string."""

BUILT_IN: tuple[str, ...] = ("app", "today", "user", "groups")
_RESERVED = frozenset({*BUILT_IN, "examples", "context", "self", "loop", "caller", "varargs", "kwargs", "true", "none"})

Format = Literal["xml", "json", "markdown"]
"""How values are escaped, and structured ones are written."""

PassageFormat = Literal["numbered", "xml", "json", "markdown"]
"""How passages are put before a model; `numbered` is ``[1] text``."""

Selection = Literal["all", "first", "similar", "tag"]

VariableName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,63}$")]
_MOST_VARIABLES = 64


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VariableSpec(_Spec):
    """One value that callers pass with a request."""

    type: Literal["string", "integer", "number", "boolean", "enum", "list", "object"] = "string"
    required: bool | None = Field(default=None, description="true unless there is a default")
    default: JsonValue = None
    description: str = Field(default="", max_length=1000)
    values: list[str] = Field(default_factory=list, max_length=500, description="of an enum")
    min_length: int | None = Field(default=None, ge=0, description="of a string, in characters")
    max_length: int | None = Field(default=None, ge=1, le=200_000, description="of a string, in characters")
    minimum: float | None = None
    maximum: float | None = None
    items: VariableSpec | None = Field(default=None, description="what a list holds")
    max_items: int | None = Field(default=None, ge=1, le=10_000)
    properties: dict[str, VariableSpec] = Field(
        default_factory=dict, max_length=200, description="fields of an object; without any, every field is taken"
    )

    @model_validator(mode="after")
    def _fits_its_type(self) -> VariableSpec:
        for field, kinds in _BELONGS.items():
            if field in self.model_fields_set and self.type not in kinds:
                raise ValueError(f"{field} belongs to {' or '.join(kinds)}, not to {self.type}")
        if self.type == "enum" and not self.values:
            raise ValueError("an enum needs its values")
        if self.required and self.default is not None:
            raise ValueError("a required variable has no default")
        return self

    @property
    def is_required(self) -> bool:
        """Whether a caller has to give it."""
        return self.default is None if self.required is None else self.required


_BELONGS = {
    "values": ("enum",),
    "min_length": ("string",),
    "max_length": ("string",),
    "minimum": ("integer", "number"),
    "maximum": ("integer", "number"),
    "items": ("list",),
    "max_items": ("list",),
    "properties": ("object",),
}


class Example(_Spec):
    """One few-shot example: a line of the file."""

    input: str = Field(min_length=1, max_length=50_000)
    output: str = Field(min_length=1, max_length=50_000)
    tags: list[str] = Field(default_factory=list, max_length=32)
    id: str = Field(default="", max_length=200)


class _Choosing(_Spec):
    select: Selection = "all"
    count: int = Field(default=8, ge=1, le=200, description="how many at most; `all` takes all that fit the budget")
    tags: list[str] = Field(default_factory=list, max_length=32, description="with `tag`: those with one of these")
    tag_from: str | None = Field(default=None, description="with `tag`: the variable whose value is the tag")
    max_tokens: int | None = Field(default=None, ge=1, description="of all that are chosen together, estimated")


class ExamplesFile(_Choosing):
    """Few-shot examples, as front matter names them."""

    file: str = Field(min_length=1, max_length=500, description="JSONL: input, output, tags")


class ExamplesSpec(_Choosing):
    """Few-shot examples of a release, with every line."""

    rows: list[Example] = Field(min_length=1, max_length=2000)


_Patterns = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=200)]], Field(min_length=1, max_length=64)
]


class VariantFile(_Spec):
    """A text for certain models, as front matter names it."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    models: _Patterns = Field(description="`provider/model`, with * and ?")
    file: str = Field(min_length=1, max_length=500)


class VariantSpec(_Spec):
    """A text for certain models, of a release."""

    name: str
    models: list[str]
    system: str = Field(max_length=200_000)


def _names(given: dict[str, VariableSpec]) -> dict[str, VariableSpec]:
    for name in given:
        if name in _RESERVED:
            raise ValueError(f"{name} is there already and cannot be declared")
    return given


class PromptSpec(_Spec):
    """A system prompt with everything that it is rendered from."""

    system: str = Field(max_length=200_000, description="Jinja template of the system message")
    title: str = ""
    description: str = ""
    variables: dict[VariableName, VariableSpec] = Field(default_factory=dict, max_length=_MOST_VARIABLES)
    format: Format | None = Field(default=None, description="how values are escaped; xml where variables are declared")
    passages: PassageFormat = "numbered"
    partials: dict[str, str] = Field(default_factory=dict, description="name to text, as they were when it was frozen")
    examples: ExamplesSpec | None = None
    variants: list[VariantSpec] = Field(default_factory=list, max_length=32)

    @field_validator("variables")
    @classmethod
    def _declared(cls, given: dict[str, VariableSpec]) -> dict[str, VariableSpec]:
        return _names(given)

    @property
    def escapes(self) -> Format | None:
        """How values are escaped; None leaves them as they are: a prompt that takes none from callers."""
        return self.format or ("xml" if self.variables or self.examples else None)

    # Any: JSON values.
    def component(self) -> dict[str, Any]:
        """What a release holds. A prompt that uses none of a newer version's fields keeps the digest that it had."""
        said = self.model_dump(mode="json", exclude_defaults=True)
        return {**said, "system": self.system, "title": self.title, "description": self.description}


class FrontMatter(_Spec):
    """The head of a prompt file."""

    title: str = ""
    description: str = ""
    variables: dict[VariableName, VariableSpec] = Field(default_factory=dict, max_length=_MOST_VARIABLES)
    format: Format | None = None
    passages: PassageFormat = "numbered"
    examples: ExamplesFile | None = None
    variants: list[VariantFile] = Field(default_factory=list, max_length=32)
    models: _Patterns | None = Field(default=None, description="in a file beside a prompt: a variant for these models")

    @field_validator("variables")
    @classmethod
    def _declared(cls, given: dict[str, VariableSpec]) -> dict[str, VariableSpec]:
        return _names(given)
