"""The root command: global options, lazy sub-commands, one place where errors become text and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused (key, role, policy), 130 interrupted.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Mapping

import click

from interlock import __version__
from interlock.core.errors import InterlockError

__all__ = ["main"]

_COMMANDS: Mapping[str, tuple[str, str]] = {
    "init": ("workspace:init", "Make a workspace."),
    "up": ("serve:up", "Serve the API and the console."),
    "demo": ("demo:demo", "Ingest the workspace and ask its sample questions."),
    "ingest": ("knowledge:ingest", "Read sources into the knowledge index."),
    "ask": ("ask:ask", "Ask an app."),
    "mcp": ("mcp:mcp", "Serve search and documents to an MCP client."),
    "batch": ("batch:batch", "Run many requests from a file."),
    "documents": ("knowledge:documents", "List documents."),
    "knowledge": ("knowledge:knowledge", "Search collections, look after their sources."),
    "eval": ("evals:evaluation", "Run suites against anything, gate on what they show."),
    "monitor": ("monitor:monitor", "Answers that people were given: sampled, scored, watched for drift."),
    "redteam": ("redteam:redteam", "Attack an app, a model or an endpoint, and keep what worked."),
    "judge": ("judges:judge", "Calibrate judges against people."),
    "review": ("reviewing:review", "Queues of answers that people judge."),
    "apps": ("releases:apps", "List apps and their channels."),
    "release": ("releases:release", "Freeze releases, look at them, point channels at them."),
    "migrate": ("migrate:migrate", "Say what uses a model that ends, and prepare its successors."),
    "advise": ("advise:advise", "Say what would make an app better, from measurements."),
    "load": ("load:load", "Say whether an app bears so many people at once."),
    "forecast": ("load:forecast", "Forecast what an app will cost, from a run of its cases."),
    "pipeline": ("pipelines:pipeline", "Work through files and tables with an app."),
    "compare": ("compare:compare", "Measure variants of an app beside each other."),
    "prompt": ("prompts:prompt", "Versions, drafts and previews of prompts."),
    "gate": ("gate:gate", "Say whether a release may go out, and run what is missing."),
    "policy": ("policy:policy", "Explain and test what channels ask of releases."),
    "rollout": ("rollout:rollout", "Move a channel to a release step by step."),
    "experiment": ("experiment:experiment", "Compare releases on live traffic."),
    "traces": ("observe:traces", "List traces, or show one."),
    "cost": ("cost:cost", "Sum up the ledger."),
    "limits": ("limits:limits", "Limit requests, tokens and money."),
    "budgets": ("limits:budgets", "Limit money."),
    "route": ("gateway:route", "Say where a request would go, and why."),
    "routes": ("gateway:routes", "List routes with their targets."),
    "providers": ("gateway:providers", "List, test and register providers."),
    "cache": ("cache:cache", "Look at kept answers, forget them."),
    "erase": ("erase:erase", "Erase documents, sources and persons, with a certificate."),
    "audit": ("governance:audit", "Read, prove and verify the audit log."),
    "keys": ("access:keys", "Manage API keys."),
    "token": ("access:token", "Mint on-behalf-of tokens."),
    "accounts": ("access:accounts", "Manage console accounts."),
    "models": ("serving:models", "List, fetch and remove models."),
    "config": ("workspace:config", "Show settings; go back to earlier ones."),
    "reload": ("reload:reload", "Let running servers take over interlock.yaml."),
    "import": ("importing:importing", "Take over another gateway's configuration."),
    "doctor": ("doctor:doctor", "Find what is wrong and how to fix it."),
    "backup": ("backup:backup", "Write all data to one archive."),
    "restore": ("backup:restore", "Load an archive into an empty workspace."),
    "upgrade": ("backup:upgrade", "Bring the database to this version's schema."),
    "verify-live": ("live:verify_live", "Run the golden set against a live endpoint."),
    "version": ("workspace:version", "Show versions."),
    "completion": ("workspace:completion", "Print a shell completion script."),
}


class _Lazy(click.Group):
    """Imports a command's module when the command is used, so that `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(f"interlock.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-w", "--workspace", type=click.Path(file_okay=False), help="Workspace folder (else the nearest one).")
@click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Override a setting, e.g. server.port=9000."
)
@click.option("-v", "--verbose", is_flag=True, help="Log to standard error.")
@click.version_option(__version__, "--version", message="interlock %(version)s")
@click.pass_context
def cli(ctx: click.Context, workspace: str | None, overrides: tuple[str, ...], verbose: bool) -> None:
    """Interlock: build, ship and run LLM features that are checked before they reach anyone.

    Start with: interlock init my-workspace
    """
    from interlock.cli.session import Session

    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    ctx.obj = Session(workspace, overrides)


def _exit_code(error: InterlockError) -> int:
    return {401: 4, 403: 4, 404: 3}.get(error.status, 1)


def main() -> None:
    """Run the command line and exit."""
    wants_json = "--json" in sys.argv
    # The database, the index and the traces are nobody else's to read.
    os.umask(0o077)
    # Importing makes a hundred thousand objects that stay; looking through them again and again is a fifth of starting.
    gc.set_threshold(200_000, 20, 100)
    try:
        # Outside standalone mode click gives back the code of an Exit instead of leaving with it.
        code = cli.main(standalone_mode=False)
        if isinstance(code, int):
            sys.exit(code)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        if wants_json:
            click.echo(json.dumps({"error": {"code": "usage", "message": error.format_message(), "hint": None}}))
        else:
            error.show()
        sys.exit(error.exit_code)
    except InterlockError as error:
        if wants_json:
            body = {"error": {"code": error.code, "message": error.message, "hint": error.hint, "param": error.param}}
            click.echo(json.dumps(body))
        else:
            click.secho(f"error: {error.message}", fg="red", err=True)
            if error.hint:
                click.secho(f"  hint: {error.hint}", err=True)
        sys.exit(_exit_code(error))
    except BrokenPipeError:
        # The reader of a pipe (head, less) has left: not an error of ours.
        sys.stderr.close()
        sys.exit(0)
