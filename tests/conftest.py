"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from interlock.serving.service import Models, default_models_dir


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Folder with the default models: INTERLOCK_MODELS_DIR, else the default one. Fails when it lacks one."""
    folder = Path(os.environ.get("INTERLOCK_MODELS_DIR") or default_models_dir())
    here = {model.name for model in Models(folder).installed()}
    missing = [entry.name for entry in Models(folder).catalogue() if entry.default and entry.name not in here]
    if missing:
        pytest.fail(
            f"this test runs a real model, and {', '.join(missing)} is not on this machine: "
            "run `interlock models fetch` (make test does), or set INTERLOCK_MODELS_DIR",
            pytrace=False,
        )
    return folder
