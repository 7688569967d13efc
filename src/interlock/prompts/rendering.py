"""Templates in Jinja's sandbox: undefined names are refused, values are data and are escaped where they come out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from interlock.core.errors import InvalidInput
from interlock.prompts.bounds import MOST_SIZE, Unbounded, counted
from interlock.prompts.formatting import as_context, escaped
from interlock.prompts.types import Format, PromptSpec

if TYPE_CHECKING:
    from jinja2 import Environment, Template, nodes

__all__ = ["names_in", "parsed", "references", "rendered", "trusted"]

_PLAIN = (str, int, float, bool, list, tuple, dict, type(None))
_Partials = tuple[tuple[str, str], ...]


def rendered(spec: PromptSpec, source: str, values: Mapping[str, object]) -> str:
    """`source` with the partials of `spec` and these values. Raises: Unbounded; what the template does wrong."""
    template = _template(spec.escapes, _partials(spec), source)
    with counted():
        text = template.render(values)
    if len(text) > MOST_SIZE:
        raise Unbounded(f"the text is bounded to {MOST_SIZE:,} characters")
    return text


def parsed(spec: PromptSpec, source: str, what: str = "the prompt's template") -> nodes.Template:
    """The syntax tree. Raises: InvalidInput naming the line."""
    from jinja2 import TemplateSyntaxError

    environment = _environment(spec.escapes, ())
    try:
        tree = environment.parse(source)
        environment.compile(tree)
    except TemplateSyntaxError as error:
        raise InvalidInput(f"{what} has a mistake in line {error.lineno}", param="prompt") from error
    except (RecursionError, SyntaxError) as error:
        raise InvalidInput(f"{what} nests too deeply", param="prompt", hint="fewer blocks in blocks") from error
    # Compiling consumes the tree's scopes; whoever looks at it gets one of its own.
    return environment.parse(source)


def names_in(spec: PromptSpec, source: str) -> set[str]:
    """Names that a template takes from outside."""
    from jinja2.meta import find_undeclared_variables

    return find_undeclared_variables(parsed(spec, source))


def references(spec: PromptSpec, source: str, what: str) -> list[str]:
    """Partials that a template includes. Raises: InvalidInput: the name of one is computed."""
    from jinja2.meta import find_referenced_templates

    found = list(find_referenced_templates(parsed(spec, source, what)))
    names = [name for name in found if name is not None]
    if len(names) < len(found):
        raise InvalidInput(
            f"{what} includes a file whose name is computed",
            param="prompt",
            hint='name it: {% include "partials/x.md" %}',
        )
    return names


def trusted(text: str) -> str:
    """Text that is escaped already, or is the author's own."""
    from markupsafe import Markup

    # Escaped by whoever calls this; never a caller's value as it came.
    return Markup(text)  # noqa: S704


def _partials(spec: PromptSpec) -> _Partials:
    return tuple(sorted(spec.partials.items()))


@lru_cache(maxsize=64)
def _environment(how: Format | None, partials: _Partials) -> Environment:
    # Imported with the first prompt: a gateway without apps starts without it.
    from jinja2 import DictLoader, StrictUndefined

    from interlock.prompts.sandbox import BoundedEnvironment

    environment = BoundedEnvironment(
        undefined=StrictUndefined,
        loader=DictLoader(dict(partials)),
        # Escaping is ours (`finalize`); with this, blocks and macros, made of escaped pieces, stay as they are.
        autoescape=how is not None,
        finalize=None if how is None else _escaping(how),
        keep_trailing_newline=False,
    )
    if how is not None:
        # Nothing may say of a value that it is no data.
        for name in ("safe", "forceescape", "escape", "e", "tojson", "xmlattr", "urlize", "striptags"):
            environment.filters.pop(name, None)
        environment.filters["context"] = lambda value, name="": trusted(as_context(_data(value), how, str(name)))
    return environment


# Any: whatever an expression gives.
def _escaping(how: Format) -> Any:
    def finalize(value: Any) -> Any:
        if hasattr(value, "__html__"):
            return value
        return trusted(escaped(_data(value), how))

    return finalize


# Any: whatever an expression gives.
def _data(value: Any) -> Any:
    from jinja2 import Undefined

    if isinstance(value, Undefined):
        # Refuses itself, naming the variable.
        str(value)
    if not isinstance(value, _PLAIN):
        raise TypeError("a template shows values, not functions")
    return list(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=256)
def _template(how: Format | None, partials: _Partials, source: str) -> Template:
    from jinja2 import TemplateSyntaxError

    try:
        return _environment(how, partials).from_string(source)
    except TemplateSyntaxError as error:
        raise InvalidInput(f"the prompt's template has a mistake in line {error.lineno}", param="prompt") from error
