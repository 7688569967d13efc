"""`interlock import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from interlock.cli.session import emit, json_option
from interlock.core.errors import Conflict, InvalidInput, Misconfigured
from interlock.core.wording import plain
from interlock.core.yaml_text import YamlFault, read_yaml

if TYPE_CHECKING:
    from interlock.config import Settings
    from interlock.gateway.imports.litellm import Note

__all__ = ["importing"]

# Any in this module: settings on their way to their own validation.


@click.group()
def importing() -> None:
    """Take over another gateway's configuration."""


@importing.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write interlock.yaml into.")
@json_option
def litellm(file: Path, out: Path | None, as_json: bool) -> None:
    """Turn a LiteLLM proxy's config.yaml into settings of ours, and list what has no counterpart.

    Without --out the settings are printed, to be merged into interlock.yaml. A key that stands in the file is never
    copied: a reference takes its place.
    """
    from pydantic import ValidationError

    from interlock.config import FILE, Settings
    from interlock.gateway.imports.litellm import convert

    try:
        imported = convert(read_yaml(file.read_text("utf-8")))
    except (YamlFault, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file.name} is not YAML", param="FILE") from error
    try:
        settings = Settings(**imported.settings)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = ".".join(str(step) for step in first["loc"])
        raise Misconfigured(
            f"what was read does not fit the setting {name!r}: {plain(first['msg'])}", param=name
        ) from error
    notes = [*imported.notes, *_unpriced(settings)]
    written: Path | None = None
    text = yaml.safe_dump(imported.settings, sort_keys=False, allow_unicode=True, width=120)
    if out is not None:
        written = out / FILE
        if written.exists():
            raise Conflict(f"{str(written)!r} is there already", hint="without --out, merge what is printed into it")
        out.mkdir(parents=True, exist_ok=True)
        written.write_text(f"# Taken over from {file.name}\n{text}", "utf-8")
    if as_json:
        emit(
            {
                "settings": imported.settings,
                "notes": [note._asdict() for note in notes],
                "written": str(written) if written else None,
            }
        )
        return
    _show(imported.settings, text, written)
    for note in notes:
        click.secho(f"{note.kind}: {note.field}: {note.message}", err=True, fg="yellow" if note.kind == "do" else None)


def _unpriced(settings: Settings) -> list[Note]:
    """Budgets that will refuse models of which nobody says the price."""
    from interlock.core.messages import Usage
    from interlock.cost.prices import Prices
    from interlock.gateway.imports.litellm import Note
    from interlock.gateway.types import Target

    gateway = settings.gateway
    prices = Prices(settings.cost.prices, {name: entry.kind for name, entry in gateway.providers.items()})
    named = {target for route in gateway.routes.values() for target in [*route.targets, *route.smaller]}
    unpriced = []
    for name in sorted(named):
        target = Target.parse(name)
        if prices.price(target.provider, target.model, Usage(1000, 1000)) is None:
            unpriced.append(target)
    notes = []
    for rule in settings.cost.limits:
        if rule.money is None or rule.unpriced != "refuse":
            continue
        match = rule.match
        refused = [
            str(target)
            for target in unpriced
            if match.provider in {None, target.provider} and match.model in {None, str(target), target.model}
        ]
        if refused:
            message = (
                f"the budget {rule.name!r} refuses {', '.join(refused)}, whose price is not known: write it under"
                " cost.prices, or set `unpriced: allow` of the budget"
            )
            notes.append(Note("cost.limits", "do", message))
    return notes


def _show(settings: dict[str, Any], text: str, written: Path | None) -> None:
    if written is None:
        click.echo(text, nl=False)
        return
    gateway = settings["gateway"]
    click.echo(f"{written}: {len(gateway['providers'])} providers, {len(gateway['routes'])} routes")
    click.secho("check it with: interlock doctor; ask each provider with: interlock providers test", dim=True)
