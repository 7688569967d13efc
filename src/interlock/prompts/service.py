"""The prompts part's door: read a prompt file, render it for one request."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InvalidInput, Misconfigured, NotFound
from interlock.core.release import Release
from interlock.core.yaml_text import YamlFault, read_yaml
from interlock.prompts.types import PromptSpec

if TYPE_CHECKING:
    from jinja2 import Environment, Template

__all__ = ["read_prompt", "render"]


def read_prompt(path: Path) -> PromptSpec:
    """Read `prompt.md`: YAML front matter between ``---`` lines, then the template.

    Raises: NotFound; InvalidInput naming the file and the field.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"there is no prompt file {path.name!r}", param="prompt") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the prompt file {path.name!r} cannot be read as UTF-8 text", param="prompt") from error
    head: object = {}
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
        spec = PromptSpec(system=body.strip(), **head)
    except (ValidationError, TypeError) as error:
        raise InvalidInput(
            f"the front matter of {path.name!r} has an unknown or wrong field", param="prompt"
        ) from error
    _template(spec.system)
    return spec


def render(ctx: Context, release: Release) -> str:
    """The system text for this request.

    Raises: Misconfigured: the template uses a variable that does not exist, or does something it may not.
    """
    spec = PromptSpec.model_validate(release.components["prompt"], extra="ignore")
    user = ctx.end_user
    try:
        return _template(spec.system).render(
            app=release.app,
            today=now().date().isoformat(),
            user=user.id if user else "",
            groups=sorted(user.groups) if user else [],
        )
    except Exception as error:  # a template is the app author's code: whatever it does wrong is named as its mistake
        raise Misconfigured(
            f"the prompt of app {release.app!r} cannot be rendered: {type(error).__name__}",
            param="prompt",
            hint="variables are app, today, user and groups",
        ) from error


@cache
def _environment() -> Environment:
    # Imported with the first prompt: a gateway without apps starts without it.
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)


@lru_cache(maxsize=256)
def _template(source: str) -> Template:
    from jinja2 import TemplateSyntaxError

    try:
        return _environment().from_string(source)
    except TemplateSyntaxError as error:
        raise InvalidInput(f"the prompt's template has a mistake in line {error.lineno}", param="prompt") from error
