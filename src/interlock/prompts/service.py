"""The prompts part's door: read a prompt file, render it for one request, keep its versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import Misconfigured
from interlock.core.messages import PromptUse, PromptVariant
from interlock.core.release import Release
from interlock.prompts.bounds import Unbounded, within
from interlock.prompts.choosing import choose
from interlock.prompts.files import load_prompt
from interlock.prompts.formatting import as_examples, escaped
from interlock.prompts.rendering import names_in, rendered, trusted
from interlock.prompts.tokens import estimate_tokens
from interlock.prompts.types import Example, Format, PromptSpec
from interlock.prompts.variables import check_values

__all__ = ["Composed", "compose", "prompt_of", "read_prompt", "render"]


@dataclass(frozen=True, slots=True)
class Composed:
    """A prompt as it is sent."""

    use: PromptUse
    turns: tuple[Example, ...] = ()
    """Few-shot examples that the template does not place: they go before the conversation."""
    shown: tuple[Example, ...] = ()
    """All examples, wherever they stand."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    """Estimated tokens by section: `system` is the whole text, the others are what of it they make up."""

    @property
    def system(self) -> str:
        """The system text for models without a text of their own."""
        return self.use.text


def read_prompt(path: Path) -> PromptSpec:
    """Read `prompt.md` and the files it names. Raises: NotFound; InvalidInput naming the file and the field."""
    return load_prompt(path).spec


def prompt_of(release: Release) -> PromptSpec:
    """The prompt of a release, also of one that an older or newer version froze."""
    return PromptSpec.model_validate(release.components["prompt"], extra="ignore")


def render(
    ctx: Context, release: Release, given: Mapping[str, object] | None = None, examples: Sequence[Example] | None = None
) -> str:
    """The system text for this request. Raises: as `compose`."""
    return compose(ctx, release, given or {}, examples=examples).system


def compose(
    ctx: Context,
    release: Release,
    given: Mapping[str, object],
    *,
    ranks: Sequence[int] | None = None,
    examples: Sequence[Example] | None = None,
    inline: bool = False,
) -> Composed:
    """The prompt of this request.

    Args:
        given: values of the caller for the variables that the prompt declares.
        ranks: places of the few-shot examples, nearest to the question first.
        examples: instead of those that the prompt's own rule chooses.
        inline: examples that the template does not place are added to the text: nothing else can carry them.

    Raises: InvalidInput: a variable is missing, unknown or wrong. Misconfigured: the template does what it may not.
    """
    spec = prompt_of(release)
    values = check_values(spec.variables, given)
    chosen = tuple(_chosen(spec, values, ranks) if examples is None else examples)
    places = spec.examples is not None and _places_examples(spec)
    block = as_examples(chosen, spec.escapes or "xml")
    user = ctx.end_user
    known: dict[str, object] = {
        **values,
        "app": release.app,
        "today": now().date().isoformat(),
        "user": user.id if user else "",
        "groups": sorted(user.groups) if user else [],
    }
    if spec.examples is not None:
        known["examples"] = trusted(block)

    def text(source: str) -> str:
        try:
            made = rendered(spec, source, known)
        except Unbounded as error:
            raise Misconfigured(
                f"the prompt of app {release.app!r} does more than a template may: {error}",
                param="prompt",
                hint="let the template repeat less, or pass what is long as a variable",
            ) from error
        except (
            Exception
        ) as error:  # a template is the app author's code: whatever it does wrong is named as its mistake
            names = ", ".join(["app, today, user and groups", *spec.variables])
            raise Misconfigured(
                f"the prompt of app {release.app!r} cannot be rendered: {type(error).__name__}",
                param="prompt",
                hint=f"variables are {names}",
            ) from error
        return f"{made}\n\n{block}" if inline and block and not places else made

    version = release.digests.get("prompt", "")
    with within():
        variants = tuple(PromptVariant(each.name, tuple(each.models), text(each.system)) for each in spec.variants)
        use = PromptUse(release.app, version, text(spec.system), variants)
        tokens = _tokens(spec, use.text, known, block)
    return Composed(use, () if places or inline else chosen, chosen, tokens)


def _chosen(spec: PromptSpec, values: Mapping[str, JsonValue], ranks: Sequence[int] | None) -> Sequence[Example]:
    return () if spec.examples is None else choose(spec.examples, values, ranks)


def _places_examples(spec: PromptSpec) -> bool:
    return any("examples" in names_in(spec, source) for source in (spec.system, *spec.partials.values()))


# Any: JSON values.
def _tokens(
    spec: PromptSpec,
    system: str,
    known: Mapping[str, Any],
    block: str,
) -> dict[str, int]:
    if spec.escapes is None and not spec.partials:
        return {"system": estimate_tokens(system)}
    how: Format = spec.escapes or "xml"
    found = {"system": estimate_tokens(system)}
    if spec.variables:
        given = (known[name] for name in spec.variables)
        found["variables"] = sum(estimate_tokens(escaped(value, how)) for value in given if value is not None)
    if spec.partials:
        found["partials"] = sum(estimate_tokens(_alone(spec, text, known)) for text in spec.partials.values())
    if block:
        found["examples"] = estimate_tokens(block)
    return found


def _alone(spec: PromptSpec, source: str, known: Mapping[str, object]) -> str:
    try:
        return rendered(spec, source, known)
    except Exception:  # noqa: BLE001 - a partial may rest on what is set around it; its text is as near as one gets
        return source
