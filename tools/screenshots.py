"""Takes the pictures of the documentation: serves the handbook workspace, asks it, photographs the console.

Usage, from the repository's root, with the models fetched: ``python tools/screenshots.py``
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "images"
QUESTIONS = (
    ("Which accessories does the warranty cover, and for how long?", "dana"),
    ("How many days of annual leave do people in Utrecht have?", "eli"),
    ("What is the restocking fee for an opened box?", "dana"),
    ("How many parking spaces does the Utrecht office have?", "dana"),
    ("How many sensors does one Heron H4 gateway serve?", "guest"),
    ("What is the salary band of a senior engineer in Leeds?", "dana"),
    ("What is the salary band of a senior engineer in Leeds?", "fay"),
)
SHOWN = ("How long do customers have to return hardware they no longer want?", "dana")


@contextmanager
def console() -> Iterator[str]:
    """The address of a console over a copy of the demonstration workspace."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "handbook"
        shutil.copytree(ROOT / "examples" / "handbook", workspace, ignore=shutil.ignore_patterns(".interlock"))
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, "-m", "interlock", "-w", str(workspace)]
        subprocess.run([*command, "ingest"], env=environment, check=True)
        serving = [*command, "--set", "gateway.detect=false", "up", "--port", "0", "--json"]
        with subprocess.Popen(serving, env=environment, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            said = ""
            for line in server.stdout:
                said += line
                if line.startswith("}"):
                    break
            try:
                yield json.loads(said)["url"]
            finally:
                server.terminate()


def ask(page: Page, question: str, user: str) -> None:
    """Ask and wait for the whole answer."""
    page.goto("/ask")
    page.fill("#question", question)
    page.select_option("select[name=as]", user)
    page.click("[data-go]")
    page.wait_for_selector("#answer", timeout=120_000)


def main() -> None:
    """Write `docs/images/console-*.png`."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with console() as url, sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page(
            viewport={"width": 1360, "height": 850}, base_url=url, color_scheme="light", reduced_motion="reduce"
        )
        for question, user in QUESTIONS:
            ask(page, question, user)
        ask(page, *SHOWN)
        page.locator("#answer a.cite").first.click()
        page.wait_for_selector("#source #cited")
        page.mouse.move(0, 0)
        page.screenshot(path=PICTURES / "console-ask.png")
        page.goto("/")
        page.screenshot(path=PICTURES / "console-overview.png")
        browser.close()
    for name in ("console-ask.png", "console-overview.png"):
        print(PICTURES / name)


if __name__ == "__main__":
    main()
