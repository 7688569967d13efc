"""Settings with where each came from, accounts, models and versions. Never shows a secret."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.app import App
from interlock.config import Origin, shown_value
from interlock.console.rendering import render
from interlock.console.session import Caller, page
from interlock.core.context import Role
from interlock.http.callers import app_of
from interlock.serving.types import InstalledModel, ModelEntry

__all__ = ["routes", "shown_settings"]

_MAY_SEE = (Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
_MAY_SEE_ACCOUNTS = (Role.OPERATOR, Role.RISK, Role.AUDITOR)


class Setting(NamedTuple):
    """One setting as it may be shown."""

    name: str
    value: str
    source: str


class Model(NamedTuple):
    """A model of the catalogue, and what is here of it."""

    entry: ModelEntry
    installed: InstalledModel | None


async def show(request: Request, caller: Caller) -> Response:
    """``GET /settings``."""
    caller.ctx.require(*_MAY_SEE)
    app = app_of(request)
    chosen = list(shown_settings(app.workspace.origins()))
    accounts = await app.parts.access.accounts.list(caller.ctx.tenant) if caller.has(*_MAY_SEE_ACCOUNTS) else None
    return render(
        request,
        caller,
        "settings.html",
        settings=[setting for setting in chosen if setting.source != "default"],
        defaults=[setting for setting in chosen if setting.source == "default"],
        accounts=accounts,
        models=_models(app),
        python=platform.python_version(),
        schema=await app.sql.revision(),
        database=app.sql.dialect,
        models_folder=str(app.parts.models.folder),
        public_key=app.parts.governance.public_key,
        anonymous=app.workspace.settings.access.anonymous,
    )


def shown_settings(origins: Iterator[Origin]) -> Iterator[Setting]:
    """Settings by name; passwords in addresses and values of headers are covered."""
    for origin in origins:
        value = shown_value(origin.name, origin.value)
        if value is None:
            text = "–"
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        elif isinstance(value, list | dict):
            text = ", ".join(str(item) for item in value) or "–"
        else:
            text = str(value)
        yield Setting(origin.name, text, origin.source)


def _models(app: App) -> list[Model]:
    here = {model.name: model for model in app.parts.models.installed()}
    return [Model(entry, here.get(entry.name)) for entry in app.parts.models.catalogue()]


routes = [Route("/settings", page(show))]
