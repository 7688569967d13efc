"""Runs what the documentation shows: blocks marked `run`, in order, each page in a folder of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent.parent
_BLOCK = re.compile(r"^```(\w+) (run server|run|expect)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    kind: str
    code: str


def blocks(page: Path) -> list[Block]:
    return [Block(*match.groups()) for match in _BLOCK.finditer(page.read_text("utf-8"))]


PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if blocks(page)]


def test_every_kind_of_page_has_examples_that_run() -> None:
    assert {page.parent.name for page in PAGES} >= {"start", "how-to"}


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def servers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=40)


@pytest.mark.model
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_a_page_run(page: Path, tmp_path: Path, port: int, servers: list[subprocess.Popen[bytes]]) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{_shim(tmp_path)}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(str(Path(p).resolve()) for p in [ROOT / "src"]),
        "INTERLOCK_SERVER__PORT": str(port),
        "COLUMNS": "160",
    }
    folder = tmp_path / "page"
    folder.mkdir()
    output = ""
    for block in blocks(page):
        code = block.code.replace("127.0.0.1:8321", f"127.0.0.1:{port}")
        if block.kind == "expect":
            for line in code.strip().splitlines():
                assert line in output, f"{line!r} is not in what the example printed:\n{output}"
            output = ""
        elif block.kind == "run server":
            servers.append(subprocess.Popen(["sh", "-c", f"exec {code.strip()}"], cwd=folder, env=environment))
            _wait_for(port)
        else:
            command = (
                [sys.executable, "-c", code] if block.language == "python" else ["sh", "-ec", code + "\npwd > .cwd"]
            )
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
            )
            assert done.returncode == 0, f"{code}\nprinted\n{done.stdout}\n{done.stderr}"
            output += done.stdout
            if block.language == "sh":
                # `cd` in one block holds for the next, as in a reader's shell.
                moved = Path(next(folder.rglob(".cwd")).read_text().strip())
                for mark in folder.rglob(".cwd"):
                    mark.unlink()
                folder = moved


def _shim(tmp_path: Path) -> Path:
    """A folder with `interlock`, for environments where the package is on the path but not installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "interlock"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m interlock "$@"\n')
    script.chmod(0o755)
    return folder


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError("the server did not start")


def test_the_generated_reference_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "reference.py"), "--check"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert not broken, broken
