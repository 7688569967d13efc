"""Write docs/reference/cli.md and settings.md from the code. `--check` only says whether they are up to date."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from pydantic import BaseModel

from interlock.cli.root import cli
from interlock.config import Settings

DOCS = Path(__file__).parent.parent / "docs" / "reference"


def command_line() -> str:
    """Every command with its arguments and options."""
    lines = ["# Command line", "", "Made by `python tools/reference.py`. Every command takes `-h`.", ""]

    def walk(command: click.Command, path: str) -> None:
        ctx = click.Context(command, info_name=path)
        if isinstance(command, click.Group):
            if path != "interlock":
                lines.extend([f"## `{path}`", "", command.get_short_help_str(200), ""])
            for name in command.list_commands(ctx):
                child = command.get_command(ctx, name)
                assert child is not None
                walk(child, f"{path} {name}")
            return
        usage = " ".join(command.collect_usage_pieces(ctx))
        lines.extend([f"### `{path} {usage}`".replace(" [OPTIONS]", ""), "", (command.help or "").strip(), ""])
        options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        if options:
            for option in options:
                names = ", ".join([*option.opts, *option.secondary_opts])
                lines.append(f"- `{names}`: {option.help or ''}".rstrip(": "))
            lines.append("")

    walk(cli, "interlock")
    return "\n".join(lines).rstrip() + "\n"


def settings() -> str:
    """Every setting with its default and meaning."""
    lines = [
        "# Settings",
        "",
        "Made by `python tools/reference.py`. Set them in `interlock.yaml`, in the environment as",
        "`INTERLOCK_SECTION__NAME`, or by `interlock --set section.name=value`; later ones win.",
        "`interlock config show` says where each value came from.",
        "",
        "| Setting | Default | Meaning |",
        "|---|---|---|",
    ]

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                walk(kind, f"{prefix}{name}.")
                continue
            default = "" if field.default_factory else repr(field.default)
            lines.append(f"| `{prefix}{name}` | `{default}` | {field.description or ''} |".replace("| `` |", "|  |"))

    walk(Settings, "")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write or check both pages."""
    stale = []
    for name, text in (("cli.md", command_line()), ("settings.md", settings())):
        path = DOCS / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_text("utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, "utf-8")
    if stale:
        print(f"out of date: {', '.join(stale)}; run: python tools/reference.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
