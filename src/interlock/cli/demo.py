"""`interlock demo`: everything a newcomer should see, in one command."""

from __future__ import annotations

from typing import Any

import click

from interlock.cli.session import Session, json_option, pass_session, run

__all__ = ["demo"]


@click.command()
@click.option("--serve/--no-serve", default=True, show_default=True, help="Serve when the questions are answered.")
@click.option("--app", "app_name", default="handbook", show_default=True)
@json_option
@pass_session
def demo(session: Session, serve: bool, app_name: str, as_json: bool) -> None:
    """Fetch missing models, ingest the documents, ask the app's sample questions, then serve."""
    from interlock.cli.serving import fetch_models, models_of

    store = models_of(session)
    missing = [e.name for e in store.catalogue() if e.default and e.name not in {m.name for m in store.installed()}]
    if missing:
        click.secho("Fetching models", bold=True)
        fetch_models(store, missing)

    async def work() -> None:
        from interlock.cli.ask import print_answer
        from interlock.cli.knowledge import ingest_collection, print_report
        from interlock.cli.serve import serve_app

        async with session.open() as app:
            for found in app.detected:
                click.echo(f"Using {found.target} ({found.how})")
            if not app.detected:
                click.echo("No provider key and no local model server found: using the built-in local model")
            click.secho("\nReading the documents", bold=True)
            for name in app.ingested_collections():
                print_report(await ingest_collection(app, name, quiet=False))
            for sample in _samples(app.workspace.path(f"{app.workspace.settings.apps_dir}/{app_name}")):
                user = sample.get("as")
                click.secho(f"\n{sample['question']}" + (f"  (as {user})" if user else ""), bold=True)
                values = sample.get("variables") or {}
                finished = await app.ask(sample["question"], app=app_name, user=user, variables=values)
                print_answer(finished.answer, finished.receipt)
            if serve:
                click.echo()
                await serve_app(app, warm=True, as_json=as_json)

    run(work())


def _samples(folder: Any) -> list[dict[str, Any]]:  # Any: a Path; YAML gives plain values
    from interlock.core.yaml_text import read_yaml

    path = folder / "samples.yaml"
    return list(read_yaml(path.read_text("utf-8"))["questions"]) if path.exists() else []
