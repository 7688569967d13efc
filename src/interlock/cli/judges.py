"""`interlock judge`: calibrate judges against people, and see which of them may gate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table

if TYPE_CHECKING:
    from interlock.evals.judges.licence import Licence

__all__ = ["judge"]

_file = click.Path(dir_okay=False, path_type=Path)


@click.group()
def judge() -> None:
    """Calibrate judges against people; only one with a valid licence may gate."""


@judge.command()
@click.argument("judge_file", metavar="JUDGE.yaml", type=_file)
@click.option("--labels", required=True, type=_file, help="What people said (JSONL; see the docs).")
@click.option("--judge", "model", default="", help="Route or provider/model, for a judge without models of its own.")
@click.option("--limit", type=click.IntRange(1), help="Only so many of the labels, spread over the file.")
@click.option("--concurrency", type=click.IntRange(1, 128), default=8, show_default=True)
@click.option("--verdicts", type=_file, help="Also write every verdict beside what people said (JSONL).")
@json_option
@pass_session
def calibrate(
    session: Session,
    /,
    judge_file: Path,
    labels: Path,
    model: str,
    limit: int | None,
    concurrency: int,
    verdicts: Path | None,
    as_json: bool,
) -> None:
    """Let the judge of JUDGE.yaml say what people have said, and write its licence beside it.

    Exit code 5 when what was found does not allow it to gate.
    """
    from interlock.core.clock import now
    from interlock.core.errors import InvalidInput
    from interlock.evals.judges.calibrating import Calibration
    from interlock.evals.judges.calibrating import calibrate as calibrated
    from interlock.evals.judges.labels import read_labels
    from interlock.evals.judges.licence import why_not, write_licence
    from interlock.evals.judges.spec import read_judge

    spec = read_judge(judge_file)
    known = read_labels(labels)
    if limit is not None and limit < len(known):
        # Evenly over the file: its first lines are often of one kind.
        known = [known[at * len(known) // limit] for at in range(limit)]
    if not spec.models and not model:
        raise InvalidInput("no model is named that judges", param="--judge", hint="--judge MODEL")

    def tell(done: int, total: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\033[K{done:,} of {total:,} judged", nl=False, err=True)

    async def work() -> Calibration:
        from interlock.flows.evaluation_instruments import workspace_instruments

        async with session.open() as app:
            instruments = workspace_instruments(app.parts, judge=model or None, folder=judge_file.parent)
            assert instruments.ask_judge is not None, "a workspace's instruments have it"
            return await calibrated(
                spec,
                known,
                instruments.ask_judge,
                model=model,
                label_file=labels.name,
                concurrency=concurrency,
                report=tell,
            )

    found = run(work())
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
    place = write_licence(judge_file.parent, found.licence)
    if verdicts is not None:
        import json

        rows = ({"id": name, "people": people, "judge": told} for name, people, told in found.verdicts)
        verdicts.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    why = why_not(found.licence, found.licence.identity, at=now())
    if as_json:
        emit({**_told(found.licence), "may_gate": not why, "why_not": why, "file": str(place)})
    else:
        _show(found.licence, why)
        click.echo(f"written to {place}")
    sys.exit(5 if why else 0)


@judge.command("list")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Folder of judges (else ./judges).")
@json_option
@pass_session
def list_judges(session: Session, /, folder: Path | None, as_json: bool) -> None:
    """Licences of a folder, and whether they still hold."""
    from interlock.core.clock import now
    from interlock.evals.judges.licence import read_licences, why_not

    rows: list[dict[str, Any]] = []
    for licence in read_licences([folder or Path("judges")]):
        why = why_not(licence, licence.identity, at=now())
        rows.append({**_told(licence), "may_gate": not why, "why_not": why})
    if as_json:
        emit(rows)
    else:
        table(
            ["judge", "models", "labels", "agreement", "kappa", "may gate", "why not"],
            [
                (
                    r["judge"],
                    ", ".join(r["models"]),
                    r["count"],
                    f"{r['agreement']:.3f}",
                    f"{r['kappa']:.3f}",
                    "yes" if r["may_gate"] else "no",
                    r["why_not"],
                )
                for r in rows
            ],
        )


@judge.command()
@click.argument("labels", type=_file)
@json_option
@pass_session
def agreement(session: Session, /, labels: Path, as_json: bool) -> None:
    """How far the people of LABELS agree among themselves: no judge is asked for more."""
    from interlock.core.errors import InvalidInput
    from interlock.evals.judges.calibrating import human_agreement, longest_wins
    from interlock.evals.judges.labels import LabelledPair, read_labels

    pairs = [each for each in read_labels(labels) if isinstance(each, LabelledPair)]
    if not pairs:
        raise InvalidInput(f"{labels.name!r} holds no pairs", param="labels")
    found = human_agreement(pairs)
    floor = longest_wins(pairs)
    if as_json:
        raters = [{"raters": [a, b], "agreement": same, "kappa": kappa} for a, b, same, kappa in found]
        emit({"pairs": len(pairs), "longest_wins": floor, "raters": raters})
        return
    table(["raters", "agreement", "kappa"], [(f"{a}, {b}", f"{same:.3f}", f"{k:.3f}") for a, b, same, k in found])
    click.echo(f"{len(pairs)} pairs; the longer answer is the better one in {floor:.1%} of them")


def _told(licence: Licence) -> dict[str, Any]:
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(licence)
    return told


def _show(licence: Licence, why: str) -> None:
    low, high = licence.kappa_interval
    click.secho(f"{licence.judge}  {', '.join(licence.models)}", bold=True)
    rows = [
        ("labels", f"{licence.count}, of them {licence.unreadable} without a verdict"),
        ("agreement with people", f"{licence.agreement:.3f}"),
        ("kappa", f"{licence.kappa:.3f} ({low:.3f} to {high:.3f})"),
    ]
    for name, value in (
        ("same winner when swapped", licence.swap_consistency),
        ("same when asked again", licence.repeat_consistency),
        ("leaning to longer answers", licence.length_bias),
        ("the longer answer wins", licence.floor),
    ):
        if value is not None:
            rows.append((name, f"{value:.3f}"))
    rows.append(("cost", f"{licence.cost_nano / 1e9:.4f} USD"))
    table(["", ""], rows)
    click.secho("may gate" if not why else f"may not gate: {why}", fg="green" if not why else "yellow")
