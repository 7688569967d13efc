"""Tests beside a prompt: what it has to say for certain values, before any model is asked. Pure.

``prompt.tests.yaml`` lies beside ``prompt.md``. Its `tests` render the prompt; what a model makes of it is looked at by
the cases under `ask`, which the evaluation runner asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from interlock.core.errors import InvalidInput
from interlock.core.patterns import check_pattern, found_in
from interlock.core.wording import first, told
from interlock.core.yaml_text import YamlFault, read_yaml

__all__ = ["Expected", "PromptTest", "Rendered", "TestResult", "TestsFile", "failures_of", "read_tests", "tests_path"]

_MOST_BYTES = 4 << 20
_Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Expected(_Spec):
    """What holds of the text that is sent."""

    contains: list[_Text] = Field(default_factory=list, max_length=200)
    absent: list[_Text] = Field(default_factory=list, max_length=200, description="what it does not contain")
    matches: list[Annotated[_Text, AfterValidator(check_pattern)]] = Field(
        default_factory=list, max_length=50, description="regular expressions, each found somewhere"
    )
    max_tokens: int | None = Field(default=None, ge=1, description="of text and examples together, estimated")
    variant: str | None = Field(default=None, description="which text is sent; `default` is the prompt's own")
    sections: list[_Text] = Field(
        default_factory=list, max_length=100, description="beginnings of lines that follow each other in this order"
    )
    examples: int | None = Field(default=None, ge=0, description="how many few-shot examples are shown")
    refused: str | None = Field(
        default=None, description="code or variable of the error: the values are not taken; nothing else is looked at"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Expected:
        if not any(value is not None and value != [] for _, value in self):
            raise ValueError(f"it says nothing that has to hold: one of {', '.join(type(self).model_fields)}")
        return self


class PromptTest(_Spec):
    """One rendering."""

    name: str = Field(min_length=1, max_length=200)
    variables: dict[str, JsonValue] = Field(default_factory=dict)
    user: str = ""
    groups: list[str] = Field(default_factory=list)
    question: str = Field(default="", description="examples are chosen by it")
    model: str = Field(default="", description="provider/model: its own text is looked at, where it has one")
    expect: Expected


class TestsFile(_Spec):
    """``prompt.tests.yaml``."""

    tests: list[PromptTest] = Field(default_factory=list, max_length=2000)
    # Any: cases, metrics and more of a suite; read where suites are.
    ask: dict[str, Any] | None = Field(
        default=None,
        description="`cases`, `metrics`, `repeats`, `gate` as of a suite; `at_least`; `app` where several use it",
    )

    @field_validator("tests")
    @classmethod
    def _are_called_unlike(cls, given: list[PromptTest]) -> list[PromptTest]:
        names = [each.name for each in given]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two tests are called {name!r}")
        return given

    @model_validator(mode="after")
    def _tests_something(self) -> TestsFile:
        if not self.tests and self.ask is None:
            raise ValueError("it tests nothing: write `tests`, or cases under `ask`")
        return self


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as it would be sent."""

    text: str
    variant: str
    tokens: int
    examples: int


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test of a prompt."""

    prompt: str
    name: str
    kind: Literal["rendering", "case", "gate"]
    failures: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures


def tests_path(prompt: Path) -> Path:
    """Where the tests of a prompt are, whether they are there or not."""
    return prompt.with_name(f"{prompt.stem}.tests.yaml")


def read_tests(path: Path) -> TestsFile | None:
    """The tests in a file; None where there is no file. Blocking.

    Raises: InvalidInput naming the field.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidInput(f"{path.name} is over {_MOST_BYTES >> 20} MiB", param="tests")
        given = read_yaml(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (YamlFault, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise InvalidInput(f"{path.name} is not YAML{where}", param="tests") from error
    except OSError as error:
        raise InvalidInput(f"{path.name} cannot be read: {error.strerror}", param="tests") from error
    try:
        return TestsFile.model_validate(given if given is not None else {})
    except ValidationError as error:
        fault = first(error)
        field = ".".join(str(step) for step in fault["loc"]) or "tests"
        raise InvalidInput(f"{path.name} is wrong at {field!r}: {told(TestsFile, fault)}", param=field) from error


def failures_of(expected: Expected, made: Rendered) -> Sequence[str]:
    """What of the text is not as it has to be. Nothing of the text itself is repeated."""
    return list(_failures(expected, made))


def _failures(expected: Expected, made: Rendered) -> Iterator[str]:
    for text in expected.contains:
        if text not in made.text:
            yield f"does not contain {_short(text)}"
    for text in expected.absent:
        if text in made.text:
            yield f"contains {_short(text)}"
    for pattern in expected.matches:
        if not found_in(pattern, made.text):
            yield f"nothing matches {_short(pattern)}"
    if expected.max_tokens is not None and made.tokens > expected.max_tokens:
        yield f"has about {made.tokens:,} tokens, and {expected.max_tokens:,} at most are asked for"
    if expected.variant is not None and made.variant != expected.variant:
        yield f"the text {made.variant!r} is sent, and not {expected.variant!r}"
    if expected.examples is not None and made.examples != expected.examples:
        yield f"shows {made.examples} examples, and not {expected.examples}"
    yield from _missing_sections(expected.sections, made.text)


def _missing_sections(sections: Sequence[str], text: str) -> Iterator[str]:
    lines = iter(text.splitlines())
    for section in sections:
        if not any(line.lstrip().startswith(section) for line in lines):
            known = any(line.lstrip().startswith(section) for line in text.splitlines())
            yield f"the section {_short(section)} " + ("stands in another place" if known else "is missing")
            return


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}…")
