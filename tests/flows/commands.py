"""Commands run as a person runs them, on workspaces with a scripted provider."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from interlock.cli import main

__all__ = ["Done", "Run", "runner"]


class Done(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # Any: what a command printed
        """Its standard output, read."""
        return json.loads(self.out)


Run = Callable[..., Done]


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run commands in this process."""

    def call(at: Path, *arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["interlock", "-w", str(at), *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return call
