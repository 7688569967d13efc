"""`interlock prompt`: the registry of prompts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from interlock.cli.prompt_checks import lint_prompts, list_rules, run_tests, show_quality
from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.flows.prompt_desk import Asked
    from interlock.prompts.sections import SectionDiff
    from interlock.prompts.types import PromptSpec, VariableSpec

__all__ = ["prompt"]

T = TypeVar("T")
_name = click.argument("name", metavar="PROMPT")
_version = click.option(
    "--version", "wanted", default="files", show_default=True, help="files, a label, a channel, or a digest."
)
_file = click.Path(dir_okay=False, path_type=Path)


@click.group()
def prompt() -> None:
    """Prompts: versions, drafts, labels, previews, patches; who uses them and what they cost."""


prompt.add_command(lint_prompts)
prompt.add_command(list_rules)
prompt.add_command(run_tests)
prompt.add_command(show_quality)


def _with_app(session: Session, work: Callable[[App], Coroutine[Any, Any, T]]) -> T:
    async def opened() -> T:
        async with session.open() as app:
            return await work(app)

    return run(opened())


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:8]


@prompt.command("list")
@json_option
@pass_session
def list_prompts(session: Session, /, as_json: bool) -> None:
    """Every prompt, its version in the files, its labels, and the apps that use it."""
    from interlock.flows.prompt_views import known_view

    found = _with_app(session, lambda app: app.parts.prompts.list(app.owner()))
    if as_json:
        emit([known_view(each) for each in found])
        return
    rows = [
        (
            each.place.name,
            _short(each.loaded.digest) if each.loaded else "broken",
            ", ".join(label.name for label in each.labels),
            ", ".join(each.place.apps),
            each.loaded.spec.title if each.loaded else (each.error.message if each.error else ""),
        )
        for each in found
    ]
    table(["prompt", "files", "labels", "apps", "title"], rows)


@prompt.command()
@_name
@_version
@json_option
@pass_session
def show(session: Session, /, name: str, wanted: str, as_json: bool) -> None:
    """The text of PROMPT, its variables, and how long each part is."""

    async def work(app: App) -> None:
        from interlock.flows.prompt_desk import history, pick_prompt, spec_of
        from interlock.flows.prompt_views import version_view
        from interlock.prompts.sections import sections_of
        from interlock.prompts.tokens import estimate_tokens

        ctx = app.owner()
        version = await pick_prompt(app.parts, ctx, name, wanted)
        labels = await app.parts.prompts.labels(ctx, name)
        sections = sections_of(spec_of(version))
        tokens = {part: estimate_tokens(text) for part, text in sections.items()}
        if as_json:
            known = await history(app.parts, ctx, name)
            told = version_view(version, labels, whole=True)
            emit({"name": name, **told, "tokens": tokens, "versions": len(known)})
            return
        click.secho(f"{name}  {_short(version.digest)}", bold=True)
        click.echo(version.digest)
        pointing = [each.name for each in labels if each.digest == version.digest]
        if pointing:
            click.echo(f"labelled {', '.join(pointing)}")
        for part, text in sections.items():
            click.secho(f"\n{part} (about {tokens[part]:,} tokens)", bold=True)
            click.echo(text)

    _with_app(session, work)


def _asking(command: Callable[..., None]) -> Callable[..., None]:
    """Options of a rendering."""
    for option in (
        click.option("--model", default="", metavar="PROVIDER/MODEL", help="The text for this model."),
        click.option("--question", default="", help="What examples are chosen by."),
        click.option("--as", "user", default="", metavar="USER", help="Id of the end user."),
        click.option("--var", "given", multiple=True, metavar="NAME=VALUE", help="A variable; YAML unless text."),
    ):
        command = option(command)
    return command


# Any: options by their names.
def asked_of(spec: PromptSpec, given: Sequence[str], **rest: Any) -> Asked:
    """What a prompt is rendered with. Raises: InvalidInput: a value cannot be read."""
    from interlock.flows.prompt_desk import Asked

    return Asked(values=values_of(spec.variables, given), **rest)


def values_of(
    declared: Mapping[str, VariableSpec], given: Sequence[str], *, undeclared: Literal["string", "object"] = "string"
) -> Mapping[str, Any]:
    """``NAME=VALUE`` by what the prompt declares.

    Args:
        undeclared: how other values are read: as text, or as YAML.
    """
    from interlock.prompts.types import VariableSpec
    from interlock.prompts.variables import value_from_text

    values: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals:
            raise click.UsageError(f"--var takes NAME=VALUE, not {each!r}")
        values[name] = value_from_text(declared.get(name, VariableSpec(type=undeclared)), text)
    return values


@prompt.command()
@_name
@_version
@_asking
@json_option
@pass_session
def render(session: Session, /, name: str, wanted: str, given: tuple[str, ...], as_json: bool, **rest: str) -> None:
    """Print PROMPT as it would be sent."""

    async def work(app: App) -> None:
        from interlock.flows.prompt_desk import pick_prompt, preview, spec_of
        from interlock.flows.prompt_views import preview_view

        ctx = app.owner()
        spec = spec_of(await pick_prompt(app.parts, ctx, name, wanted))
        made = await preview(app.parts, ctx, name, spec, asked_of(spec, given, **rest))
        if as_json:
            emit(preview_view(made))
            return
        click.echo(made.system)
        for turn in made.turns:
            click.secho("\nuser", dim=True)
            click.echo(turn["input"])
            click.secho("\nassistant", dim=True)
            click.echo(turn["output"])
        sizes = ", ".join(f"{part} {count:,}" for part, count in made.tokens.items())
        click.secho(f"\n{made.variant} · about {sizes} tokens", dim=True, err=True)

    _with_app(session, work)


@prompt.command()
@_name
@click.argument("before")
@click.argument("after", default="files")
@json_option
@pass_session
def diff(session: Session, /, name: str, before: str, after: str, as_json: bool) -> None:
    """What turns BEFORE into AFTER: labels, channels, digests, or `files`."""

    async def work(app: App) -> None:
        from interlock.flows.prompt_desk import compare_prompts, pick_prompt
        from interlock.flows.prompt_views import section_view

        ctx = app.owner()
        old = await pick_prompt(app.parts, ctx, name, before)
        new = await pick_prompt(app.parts, ctx, name, after)
        sections = compare_prompts(old, new)
        if as_json:
            emit({"before": old.digest, "after": new.digest, "sections": [section_view(each) for each in sections]})
            return
        click.secho(f"{_short(old.digest)} → {_short(new.digest)}", bold=True)
        if not sections:
            click.echo("they are the same prompt")
        for each in sections:
            _section(each)

    _with_app(session, work)


def _section(found: SectionDiff) -> None:
    click.secho(found.name, bold=True)
    for line in found.lines:
        click.secho(line, fg={"+": "green", "-": "red"}.get(line[:1]))


@prompt.command()
@_name
@json_option
@pass_session
def log(session: Session, /, name: str, as_json: bool) -> None:
    """Versions of PROMPT, newest first: recorded ones, drafts, and those that releases hold."""

    async def work(app: App) -> None:
        from interlock.flows.prompt_desk import history
        from interlock.flows.prompt_views import version_view

        ctx = app.owner()
        found = await history(app.parts, ctx, name)
        labels = await app.parts.prompts.labels(ctx, name)
        if as_json:
            emit([version_view(each, labels) for each in found])
            return
        rows = [
            (
                _short(each.digest),
                f"{each.at:%Y-%m-%d %H:%M}",
                each.author,
                each.origin,
                ", ".join(label.name for label in labels if label.digest == each.digest),
                each.rationale,
            )
            for each in found
        ]
        table(["version", "at", "by", "from", "labels", "why"], rows)

    _with_app(session, work)


@prompt.command()
@_name
@click.option("--why", "rationale", required=True, help="Stays with the version.")
@json_option
@pass_session
def record(session: Session, /, name: str, rationale: str, as_json: bool) -> None:
    """Keep what the files of PROMPT say now as a version."""
    from interlock.flows.prompt_views import version_view

    kept = _with_app(session, lambda app: app.parts.prompts.record(app.owner(), name, rationale))
    emit(version_view(kept)) if as_json else click.echo(kept.digest)


@prompt.command()
@_name
@click.option("--why", "rationale", required=True, help="Stays with the version.")
@click.option(
    "--write",
    "written",
    multiple=True,
    required=True,
    metavar="PATH=FILE",
    help="PATH of the workspace is to say FILE.",
)
@json_option
@pass_session
def draft(session: Session, /, name: str, rationale: str, written: tuple[str, ...], as_json: bool) -> None:
    """Save a draft of PROMPT. Nobody is served it: it becomes a patch, and that a release."""
    texts: dict[str, str] = {}
    for each in written:
        path, equals, file = each.partition("=")
        if not equals:
            raise click.UsageError(f"--write takes PATH=FILE, not {each!r}")
        try:
            texts[path] = Path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{Path(file).name!r} cannot be read as UTF-8 text", param="--write") from error

    async def work(app: App) -> None:
        from interlock.flows.prompt_views import version_view
        from interlock.prompts.files import text_digest

        ctx = app.owner()
        current = await app.parts.prompts.current_or_none(ctx, name)
        there = {} if current is None else current.files
        base = {path: text_digest(there.get(path, "")) for path in texts}
        kept = await app.parts.prompts.draft(ctx, name, texts, base, rationale)
        emit(version_view(kept)) if as_json else click.echo(kept.digest)

    _with_app(session, work)


@prompt.command()
@_name
@click.argument("version")
@click.option("-o", "--output", type=_file, help="File for it (default: standard output).")
@json_option
@pass_session
def patch(session: Session, /, name: str, version: str, output: Path | None, as_json: bool) -> None:
    """A draft of PROMPT as a patch: `interlock prompt patch PROMPT VERSION | git apply`."""
    text = _with_app(session, lambda app: app.parts.prompts.patch(app.owner(), name, version))
    if output is not None:
        try:
            output.write_text(text, "utf-8")
        except OSError as error:
            raise InvalidInput(f"{output.name!r} cannot be written: {error.strerror}", param="--output") from error
    if as_json:
        emit({"version": version, "patch": text})
    elif output is None:
        sys.stdout.write(text)
    if not text and not as_json:
        click.echo("the files say it already", err=True)


@prompt.command()
@_name
@click.argument("label")
@click.argument("version", required=False)
@click.option("--why", "rationale", default="", help="Why, for the record.")
@click.option("--remove", is_flag=True, help="Take the label away.")
@json_option
@pass_session
def label(
    session: Session, /, name: str, label: str, version: str | None, rationale: str, remove: bool, as_json: bool
) -> None:
    """Point LABEL at a VERSION of PROMPT. What is served is what releases say, not labels."""
    if remove == (version is not None):
        raise click.UsageError("say which version, or --remove")

    async def work(app: App) -> None:
        from interlock.flows.prompt_desk import label_prompt
        from interlock.flows.prompt_views import label_view

        ctx = app.owner()
        if version is None:
            await app.parts.prompts.unlabel(ctx, name, label)
            emit({"label": label, "version": None}) if as_json else click.echo(f"{label} is gone")
            return
        moved = await label_prompt(app.parts, ctx, name, label, version, rationale=rationale)
        emit(label_view(moved)) if as_json else click.echo(f"{label} → {moved.digest}")

    _with_app(session, work)


@prompt.command()
@_name
@json_option
@pass_session
def dependants(session: Session, /, name: str, as_json: bool) -> None:
    """Apps, releases, channels and rollouts that hold PROMPT."""

    async def work(app: App) -> None:
        from interlock.flows.prompt_desk import dependants as holding
        from interlock.flows.prompt_views import dependant_view

        found = await holding(app.parts, app.owner(), name)
        if as_json:
            emit([dependant_view(each) for each in found])
            return
        rows = [
            (
                each.app,
                "files" if each.release is None else _short(each.release),
                _short(each.digest),
                ", ".join([*each.channels, *each.rollouts]),
            )
            for each in found
        ]
        table(["app", "release", "prompt", "serves"], rows)

    _with_app(session, work)
