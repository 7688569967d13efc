"""All routes of the console."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from interlock.app import App

__all__ = ["build_routes"]


def build_routes(app: App) -> Sequence[BaseRoute]:
    """Routes over a running App."""
    return []
