"""What the registry of prompts knows together with releases, traces and evaluations: history, dependants, previews."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from interlock.core.clock import now
from interlock.core.context import Context, EndUser
from interlock.core.errors import InterlockError, NotFound
from interlock.core.ids import AppName, ReleaseId
from interlock.core.messages import ChatRequest, text_message
from interlock.core.release import Release
from interlock.flows.parts import Parts
from interlock.flows.prompting import composed_aside
from interlock.prompts.files import Loaded
from interlock.prompts.prompt_store import Label, Version
from interlock.prompts.sections import SectionDiff, compared, sections_of
from interlock.prompts.service import Composed
from interlock.prompts.types import PromptSpec
from interlock.releases.types import FROZEN_CHANNELS

__all__ = [
    "Asked",
    "Dependant",
    "Preview",
    "compare_prompts",
    "dependants",
    "history",
    "label_prompt",
    "pick_prompt",
    "preview",
    "spec_of",
]

_RELEASES = 1000


@dataclass(frozen=True, slots=True)
class Dependant:
    """Something that holds a prompt."""

    app: str
    release: ReleaseId | None
    """None: the app's files as they are now."""
    digest: str
    channels: tuple[str, ...]
    rollouts: tuple[str, ...] = ()
    """Rollouts that serve it, as control or as candidate."""


@dataclass(frozen=True, slots=True)
class Asked:
    """For whom a prompt is rendered, and with what."""

    values: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values
    user: str = ""
    groups: tuple[str, ...] = ()
    question: str = ""
    model: str = ""
    """``provider/model``: its own text is shown where it has one."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A prompt as it would be sent."""

    system: str
    variant: str
    """Name of the text that was chosen; ``default`` where no other fits."""
    turns: Sequence[Mapping[str, str]]
    tokens: Mapping[str, int]
    variants: Mapping[str, str]
    """All texts for certain models, rendered."""
    examples: int = 0
    """How many are shown, wherever they stand."""


def spec_of(version: Version) -> PromptSpec:
    """The prompt of a version, also of one that another version of Interlock wrote."""
    return PromptSpec.model_validate(version.component, extra="ignore")


async def history(parts: Parts, ctx: Context, name: str) -> Sequence[Version]:
    """Recorded versions, drafts, and those that only releases know, newest first. Raises: Forbidden, NotFound."""
    place = await parts.prompts.place(ctx, name)
    recorded = list(await parts.prompts.versions(ctx, name))
    known = {each.digest for each in recorded}
    found: dict[str, Version] = {}
    for app in place.apps:
        # Oldest first: who froze a prompt first is its author.
        for info in reversed(await parts.releases.list(ctx, app, limit=_RELEASES)):
            digest = info.components.get("prompt", "")
            if digest and digest not in known and digest not in found:
                whole = await parts.releases.pick(ctx, app, info.id)
                found[digest] = Version(
                    name, digest, "release", info.created_by, info.note, info.created_at, whole.components["prompt"]
                )
    return sorted([*recorded, *found.values()], key=lambda each: each.at, reverse=True)


async def pick_prompt(parts: Parts, ctx: Context, name: str, wanted: str = "files") -> Version:
    """A version as people name it: ``files``, a label, a channel of its app, a release's digest, or its own digest.

    Raises: Forbidden, NotFound; InvalidInput: the files.
    """
    place = await parts.prompts.place(ctx, name)
    if wanted in {"files", "live", "dev"}:
        return _now(name, await parts.prompts.current(ctx, name))
    labelled = next((each.digest for each in await parts.prompts.labels(ctx, name) if each.name == wanted), None)
    if labelled is None and wanted in FROZEN_CHANNELS:
        for app in place.apps:
            pointed = {each.name: each.release for each in await parts.releases.channels(ctx, app)}
            if wanted in pointed:
                whole = await parts.releases.pick(ctx, app, pointed[wanted])
                labelled = whole.digests.get("prompt")
    prefix = (labelled or wanted).removeprefix("sha256:")
    fits = [each for each in await history(parts, ctx, name) if each.digest.removeprefix("sha256:").startswith(prefix)]
    if len(prefix) >= 8 and len(fits) == 1:
        return fits[0]
    current = await parts.prompts.current_or_none(ctx, name)
    if len(prefix) >= 8 and current is not None and current.digest.removeprefix("sha256:").startswith(prefix):
        return _now(name, current)
    raise NotFound(
        f"{name!r} has no version, label or channel {wanted[:80]!r}",
        param="version",
        hint=f"interlock prompt log {name}",
    )


def _now(name: str, loaded: Loaded) -> Version:
    return Version(
        name, loaded.digest, "files", "", "as the files are now", now(), loaded.spec.component(), loaded.files
    )


async def label_prompt(parts: Parts, ctx: Context, name: str, label: str, wanted: str, *, rationale: str = "") -> Label:
    """Point a label at a version as `pick_prompt` takes it; it is recorded where it was not yet."""
    version = await pick_prompt(parts, ctx, name, wanted)
    known = {each.digest for each in await parts.prompts.versions(ctx, name, limit=_RELEASES)}
    if version.digest not in known:
        if version.origin == "files":
            await parts.prompts.record(ctx, name, rationale or f"labelled {label}")
        else:
            await parts.prompts.keep(ctx, version)
    return await parts.prompts.label(ctx, name, label, version.digest, rationale=rationale)


async def dependants(parts: Parts, ctx: Context, name: str) -> Sequence[Dependant]:
    """Apps, releases, channels and rollouts that hold the prompt; the files first, then releases, newest first."""
    place = await parts.prompts.place(ctx, name)
    found: list[Dependant] = []
    for app in place.apps:
        found += await _of_app(parts, ctx, app)
    return found


async def _of_app(parts: Parts, ctx: Context, app: str) -> list[Dependant]:
    found: list[Dependant] = []
    try:
        live = parts.releases.live(app)
    except InterlockError:
        # Its releases depend on the prompt all the same.
        pass
    else:
        found.append(Dependant(app, None, live.digests["prompt"], ("dev",)))
    channels = await parts.releases.channels(ctx, app)
    rollouts = await parts.releases.rollouts.list(ctx, app=AppName(app), active=True)
    for info in await parts.releases.list(ctx, app, limit=_RELEASES):
        pointed = tuple(each.name for each in channels if each.release == info.id)
        serving = tuple(each.id for each in rollouts if info.id in {each.control, each.candidate})
        found.append(Dependant(app, info.id, info.components.get("prompt", ""), pointed, serving))
    return found


async def preview(parts: Parts, ctx: Context, name: str, spec: PromptSpec, asked: Asked) -> Preview:
    """The prompt as it would be sent. Raises: InvalidInput: a variable; Misconfigured: the template."""
    made = await _composed(parts, ctx, name, spec, asked)
    request = ChatRequest("", (text_message("system", made.system),), prompt=made.use)
    sent = request.for_target(asked.model) if asked.model else request
    assert sent.prompt is not None, "it was given one"
    return Preview(
        sent.messages[0].text,
        sent.prompt.chosen or "default",
        [{"input": each.input, "output": each.output} for each in made.turns],
        made.tokens,
        {each.name: each.text for each in made.use.variants},
        len(made.shown),
    )


async def _composed(parts: Parts, ctx: Context, name: str, spec: PromptSpec, asked: Asked) -> Composed:
    place = await parts.prompts.place(ctx, name)
    component = spec.component()
    app = AppName(place.apps[0] if place.apps else name)
    release = Release(ReleaseId(""), app, "preview", "live", {"prompt": component})
    # Only names are rendered: nothing is read with this person's rights.
    whose = EndUser(asked.user, frozenset(asked.groups)) if asked.user else None
    question = (text_message("user", asked.question),) if asked.question else ()
    request = ChatRequest(f"app/{app}", question, variables=asked.values)
    return await composed_aside(parts, replace(ctx, end_user=whose), release, request)


def compare_prompts(before: Version, after: Version) -> Sequence[SectionDiff]:
    """Texts of two versions that differ."""
    return compared(sections_of(spec_of(before)), sections_of(spec_of(after)))
