"""What the apps' files say of monitoring, read again when one of them changes."""

from __future__ import annotations

import logging
from pathlib import Path

from interlock.core.errors import InvalidInput, NotFound
from interlock.evals.monitoring.types import MonitorSpec
from interlock.flows.app_files import AppFile, validate_yaml

__all__ = ["MonitorFiles"]

_log = logging.getLogger("interlock.monitor")


class MonitorFiles:
    """By app; looking costs one call of the file system.

    Args:
        folder: of the apps.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[int, MonitorSpec]] = {}

    def folder_of(self, app: str) -> Path:
        """Where the app's file is."""
        return self._folder / app

    def checked(self, app: str) -> MonitorSpec:
        """What the file says now, for people who look.

        Raises: InvalidInput: the file is wrong; NotFound: it names a suite for the night that is not there.
        """
        spec = validate_yaml(self._folder / app / "app.yaml", AppFile).monitor
        for number, nightly in enumerate(spec.nightly):
            if not (self._folder / app / nightly.suite).is_file():
                raise NotFound(f"there is no suite {nightly.suite!r}", param=f"monitor.nightly.{number}.suite")
        return spec

    def of(self, app: str) -> MonitorSpec:
        """What the file says now; one that broke keeps what it said last."""
        file = self._folder / app / "app.yaml"
        known = self._known.get(app)
        try:
            stamp = file.stat().st_mtime_ns
            if known is None or known[0] != stamp:
                known = (stamp, validate_yaml(file, AppFile).monitor)
                self._known[app] = known
        except (OSError, InvalidInput):
            # Whoever resolves the app is told what is wrong with its file.
            return known[1] if known is not None else MonitorSpec()
        return known[1]
