"""Environments of their own for tools of Python and of Node."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from interlock.core.errors import InvalidInput
from interlock.evals.redteam.outside.types import Call

__all__ = ["basic", "python_environment", "wrong_report"]

_PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NPM_CONFIG_USERCONFIG"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "PIP_CERT", "PIP_FIND_LINKS"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


def basic(**more: str) -> Mapping[str, str]:
    """What a tool is told of this machine: no key and no setting of ours."""
    return {**{name: os.environ[name] for name in _PASSED_ON if name in os.environ}, **more}


def python_environment(home: Path, requirement: str) -> Sequence[Call]:
    """A virtual environment with one package."""
    venv = [sys.executable, "-m", "venv", str(home / "venv")]
    pip = [str(home / "venv" / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", requirement]
    return [Call(venv, basic()), Call(pip, basic())]


def wrong_report(tool: str, why: str) -> InvalidInput:
    """Its report cannot be read."""
    return InvalidInput(
        f"{tool} left no report that can be read: {why}", param="tool", hint="its own output stands in output.log"
    )
