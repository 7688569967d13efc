"""`interlock compare`: variants of an app beside each other on its own cases."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.session import FiniteRange, Session, emit, json_option, pass_session, run, table
from interlock.core.errors import InvalidInput

if TYPE_CHECKING:
    from interlock.evals.matrix.types import Matrix, Variant
    from interlock.evals.running.runner import Progress

__all__ = ["announce", "compare", "tell", "write_matrix"]

_path = click.Path(dir_okay=False, path_type=Path)


class _RunsByDefault(click.Group):
    """`interlock compare FILE` is `interlock compare run FILE`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help", "-h"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_RunsByDefault)
def compare() -> None:
    """Measure variants of an app (models, prompts, retrieval) on its own cases, and say which nobody beats.

    `interlock compare FILE` is `interlock compare run FILE`.
    """


@compare.command("run")
@click.argument("file", required=False, type=_path)
@click.option("--app", "app_name", help="The app, where no FILE names it.")
@click.option("--suite", type=_path, help="The suite, where no FILE names it.")
@click.option("--model", "models", multiple=True, metavar="PROVIDER/MODEL", help="A model to try; several times.")
@click.option("--prompt", "prompts", multiple=True, metavar="FILE", help="A prompt beside app.yaml to try.")
@click.option(
    "--vary",
    "varied",
    multiple=True,
    metavar="FIELD.LABEL=JSON",
    help="What a field of app.yaml says instead, as 'knowledge.k12={\"k\": 12}' or 'knowledge.none=null'.",
)
@click.option("--quality", metavar="METRIC", help="Metric of quality (else the first of the suite's gate).")
@click.option("--judge", help="Route or provider/model that judges.")
@click.option("--max-cost", type=FiniteRange(0, min_open=True), help="US dollars after which nothing more is asked.")
@click.option("--fresh", is_flag=True, help="Begin anew although the same comparison was not finished.")
@click.option("-o", "--output", "outputs", multiple=True, type=_path, help="Write it: .json .html .md")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@pass_session
def run_matrix(session: Session, /, file: Path | None, outputs: tuple[Path, ...], as_json: bool, **given: Any) -> None:
    """Run the variants of FILE, or of the options. The same command goes on where an earlier one was ended."""
    for place in outputs:
        _form(place)
    found = run(_run(session, file, **given))
    for place in outputs:
        write_matrix(found, place)
    _show(found, as_json=as_json)


async def _run(
    session: Session,
    file: Path | None,
    *,
    app_name: str | None,
    suite: Path | None,
    models: tuple[str, ...],
    prompts: tuple[str, ...],
    varied: tuple[str, ...],
    quality: str | None,
    judge: str | None,
    max_cost: float | None,
    fresh: bool,
    quiet: bool,
) -> Matrix:
    from interlock.evals.matrix.types import read_matrix, variants_of
    from interlock.evals.suite import read_suite
    from interlock.flows.matrix import MatrixRuns, run_matrix

    axes: dict[str, Any] = {}
    if file is not None:
        if app_name or suite or models or prompts or varied:
            raise click.UsageError("FILE says what is compared: leave --app, --suite, --model, --prompt, --vary out")
        spec = read_matrix(file)
        app_name, quality = spec.app, quality or spec.quality
        suite, axes = file.parent / spec.suite, dict(spec.axes)
    else:
        if app_name is None or suite is None:
            raise click.UsageError("name a FILE, or --app and --suite")
        axes = _axes(models, prompts, varied)
    variants = variants_of(axes)
    read = read_suite(suite)
    async with session.open() as app:
        how = MatrixRuns(
            home=app.workspace.data / "evaluations",
            judge=judge,
            licences=[app.workspace.root / "judges"],
            quality=quality,
            max_cost_usd=max_cost,
            fresh=fresh,
            started=None if quiet else announce,
            progress=None if quiet else tell,
        )
        try:
            return await run_matrix(app.parts, app.owner(), app_name, read, how, variants=variants)
        finally:
            if not quiet and sys.stderr.isatty():
                click.echo("\r\033[K", nl=False, err=True)


def _axes(models: tuple[str, ...], prompts: tuple[str, ...], varied: tuple[str, ...]) -> dict[str, Any]:
    axes: dict[str, Any] = {}
    if models:
        axes["model"] = list(models)
    if prompts:
        axes["prompt"] = list(prompts)
    for each in varied:
        name, equals, value = each.partition("=")
        field, dot, label = name.partition(".")
        if not equals or not dot or not label:
            raise click.UsageError(f"--vary takes FIELD.LABEL=JSON, not {each!r}")
        try:
            axes.setdefault(field, {})[label] = json.loads(value)
        except ValueError as error:
            raise click.UsageError(f"what --vary gives {name} is not JSON") from error
    if not axes:
        raise click.UsageError("vary something: --model, --prompt, --vary")
    return axes


@compare.command("list")
@json_option
@pass_session
def list_matrices(session: Session, as_json: bool) -> None:
    """Comparisons of this workspace, newest first."""
    from interlock.evals.matrix.shelf import Shelf

    found = list(Shelf(session.workspace().data / "evaluations" / "matrices").list())
    if as_json:
        emit([{"id": m.id, "app": m.app, "suite": m.suite, "began_at": m.began_at, "ended": m.ended,
               "variants": len(m.variants), "frontier": m.frontier} for m in found])  # fmt: skip
        return
    table(
        ["comparison", "app", "suite", "began", "state", "variants", "nobody beats"],
        [(m.id, m.app, m.suite, f"{m.began_at:%Y-%m-%d %H:%M}", m.ended, len(m.variants), "; ".join(m.frontier))
         for m in found],
        right=["variants"],
    )  # fmt: skip


@compare.command("show")
@click.argument("matrix_id", metavar="ID")
@click.option("-o", "--output", "outputs", multiple=True, type=_path, help="Write it: .json .html .md")
@json_option
@pass_session
def show(session: Session, matrix_id: str, outputs: tuple[Path, ...], as_json: bool) -> None:
    """One comparison: an id, a beginning of one, or 'last'."""
    from interlock.evals.matrix.shelf import Shelf

    for place in outputs:
        _form(place)
    found = Shelf(session.workspace().data / "evaluations" / "matrices").get(matrix_id)
    for place in outputs:
        write_matrix(found, place)
    _show(found, as_json=as_json)


@compare.command("freeze")
@click.argument("matrix_id", metavar="ID")
@click.argument("variant")
@click.option("--note", default="", help="Why, for the record.")
@json_option
@pass_session
def freeze(session: Session, matrix_id: str, variant: str, note: str, as_json: bool) -> None:
    """Store VARIANT (its label or number) of a comparison as a release of the app."""
    from interlock.evals.matrix.shelf import Shelf
    from interlock.flows.matrix import freeze_variant

    async def work() -> None:
        async with session.open() as app:
            matrix = Shelf(app.workspace.data / "evaluations" / "matrices").get(matrix_id)
            label = variant
            if variant.isdecimal() and 1 <= int(variant) <= len(matrix.variants):
                label = matrix.variants[int(variant) - 1].variant.label
            info = await freeze_variant(app.parts, app.owner(), matrix, label, note=note)
            if as_json:
                emit({"release": info.id, "app": info.app, "variant": label})
                return
            click.echo(f"rel_{info.id[7:15]}: {label}")
            click.echo(f"  next: interlock gate --app {info.app} --release {info.id[7:15]} --run")

    run(work())


def _form(place: Path) -> str:
    form = {".json": "json", ".html": "html", ".md": "md"}.get(place.suffix.lower())
    if form is None:
        raise InvalidInput(f"{place.name!r} has no known ending", param="--output", hint="one of .json .html .md")
    return form


def write_matrix(found: Matrix, place: Path) -> None:
    """Write a comparison in the form that the file's ending names. Raises: InvalidInput."""
    import msgspec

    from interlock.evals.matrix.exports import html, markdown

    form = _form(place)
    if form == "json":
        text = msgspec.json.format(msgspec.json.encode(found)).decode()
    else:
        text = html(found) if form == "html" else markdown(found)
    try:
        place.write_text(text, "utf-8")
    except OSError as error:
        raise InvalidInput(f"{place.name!r} cannot be written: {error.strerror}", param="--output") from error


def announce(variant: Variant, number: int, of: int) -> None:
    """Say which variant begins."""
    click.echo(f"{number} of {of}: {variant.label}", err=True)


def tell(progress: Progress) -> None:
    """One line of progress on a terminal."""
    if sys.stderr.isatty():
        eta = "" if progress.eta_s is None else f", {progress.eta_s:,.0f} s to go"
        line = f"{progress.done:,} of {progress.total:,}, {progress.cost_nano / 1e9:.4f} USD{eta}"
        click.echo(f"\r\033[K{line}", nl=False, err=True)


def _show(found: Matrix, *, as_json: bool) -> None:
    if as_json:
        import msgspec

        emit(msgspec.to_builtins(found))
        return
    from interlock.evals.matrix.exports import rows

    click.secho(f"{found.app} on {found.suite}  {found.id}", bold=True)
    columns, lines = rows(found)
    table(columns, lines)
    click.echo("figures with 95 %; ↑ ↓ differ from the first beyond chance (p), = does not")
    for note in found.notes:
        click.echo(f"  {note}")
    if found.frontier:
        dimensions = ", ".join(found.dimensions)
        click.secho(f"nobody beats in {dimensions}: {'; '.join(found.frontier)}", bold=True)
        click.echo(f"  next: interlock compare freeze {found.id} NUMBER")
