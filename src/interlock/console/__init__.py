"""The console: server-rendered pages with small ES modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from interlock.app import App

__all__ = ["routes"]


def routes(app: App) -> Sequence[BaseRoute]:
    """All routes of the console."""
    from interlock.console.pages import build_routes

    return build_routes(app)
