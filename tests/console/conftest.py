"""A real server over a small workspace, and a real browser. Nothing here needs model weights or a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PASSWORD = "correct-horse-battery"

FILES = {
    "interlock.yaml": """
        tenant: acme
        access: {users: users.yaml, sign_in_attempts: 3}
        knowledge: {embedder: hashed}
        gateway:
          providers:
            extractive: {kind: extractive}
            slow:
              kind: scripted
              script: [{reply: "One. Two. Three. Four. Five. Six.", chunk_chars: 5, chunk_delay_s: 0.5}]
            down: {kind: scripted, script: [{fail_status: 503}]}
            plans: {kind: scripted, script: [{match_system: "pro plan for 3", reply: "Pro."}, {reply: "Free."}]}
        """,
    "users.yaml": """
        users:
          - {id: dana, name: Dana, groups: [support]}
          - {id: fay, name: Fay, groups: [finance]}
        """,
    "knowledge/docs.yaml": """
        collection: docs
        sources: [{path: ../documents}]
        permissions:
          - {match: "finance/**", readers: ["group:finance"]}
          - {match: "**", readers: ["public"]}
        """,
    "documents/returns.md": """
        # Returns policy

        What may come back, and when.

        ## Return period

        A customer may return hardware within 30 days of delivery for any reason. Parts ordered to measure stay sold.

        ## Fees

        | Case | Fee |
        | --- | --- |
        | Unopened box | none |
        | Opened box | 10 % |
        """,
    "documents/finance/salaries.md": """
        # Salary bands

        The zebra band of a senior engineer is 61,000 to 72,000 pounds a year.
        """,
    "documents/finance/scan.txt": "Th\ufffd gat\ufffdway n\ufffd\ufffdds th\ufffd n\ufffdtwork of th\ufffd hous\ufffd. "
    * 5,
    "documents/hostile.txt": """
        <script>document.title = "owned"</script>

        The giraffe contract says <img src=x onerror="document.title='owned'"> and ends on 3 May 2027.
        """,
    "apps/quotes/app.yaml": """
        description: Quotes the documents.
        route: {targets: [extractive]}
        knowledge: {collection: docs, limit: 4}
        answer: {min_answerability: 0}
        """,
    "apps/quotes/samples.yaml": """
        questions:
          - question: Within how many days may a customer return hardware?
            as: dana
        """,
    "apps/cautious/app.yaml": """
        route: {targets: [extractive]}
        knowledge: {collection: docs}
        answer: {min_answerability: 1}
        """,
    "apps/planned/app.yaml": "{prompt: plan.md, route: {targets: [plans], retries: 0}}",
    "apps/planned/plan.md": """
        ---
        title: Planned
        variables:
          plan: {type: enum, values: [free, pro], description: what they pay for}
          seats: {type: integer, default: 1, minimum: 1}
          note: {max_length: 40, required: false}
          order: {type: object, required: false}
        ---
        The {{ plan }} plan for {{ seats }}.{% if note %} <note>{{ note }}</note>{% endif %}
        {% if order %}{{ order | context("order") }}{% endif %}
        """,
    "apps/planned/samples.yaml": """
        questions:
          - question: What do I have?
            variables: {plan: pro, seats: 3}
        """,
    "apps/formed/app.yaml": "{prompt: form.md, route: {targets: [plans], retries: 0}, output: {schema: form.json}}",
    "apps/formed/form.md": "Give the state as JSON. TODO",
    "apps/formed/form.json": """
        {"type": "object", "properties": {"state": {"type": "string"}}, "required": ["state"]}
        """,
    "apps/slow/app.yaml": "route: {targets: [slow]}",
    "apps/down/app.yaml": "route: {targets: [down], retries: 0}",
}
PROMPT = "---\ntitle: Assistant\n---\nAnswer from the documents."


@dataclass
class Site:
    """A running console."""

    url: str
    root: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> str:
        """Run a command of the command line on the workspace."""
        done = subprocess.run(
            [sys.executable, "-m", "interlock", "-w", str(self.root), *arguments],
            env=self.environment, check=False, capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


def _environment(folder: Path) -> dict[str, str]:
    """The embedder without weights comes as any third party's plug-in would: by an entry point."""
    package = folder / "plugins" / "hashed-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: hashed\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[interlock.embedder]\nhashed = hashed_embedder:Plugin\n")
    (folder / "plugins" / "hashed_embedder.py").write_text(
        "from interlock.testing.embedders import HashEmbedder\n"
        "class Plugin:\n    @staticmethod\n    def open(models, *, threads):\n        return HashEmbedder()\n"
    )
    paths = [str(folder / "plugins"), *(str(Path(path).resolve()) for path in sys.path if path)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return {**kept, "XDG_DATA_HOME": str(folder), "PYTHONPATH": os.pathsep.join(paths)}


def _serve(site: Site) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "interlock", "-w", str(site.root), "up", "--port", "0", "--no-warm", "--json"],
        env=site.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("}"):
            break
    site.url = json.loads(said)["url"]
    return process


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(timeout=40)
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Documents, four apps and two accounts: `vera` (viewer) and `olga` (operator)."""
    folder = tmp_path_factory.mktemp("console")
    root = folder / "workspace"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    for app in (root / "apps").iterdir():
        (app / "prompt.md").write_text(PROMPT)
    found = Site("", root, _environment(folder))
    found.run("ingest")
    for name, role in (("vera", "viewer"), ("olga", "operator"), ("lou", "viewer")):
        found.run("accounts", "create", name, "--role", role, "--password", PASSWORD)
    process = _serve(found)
    yield found
    _stop(process)


@pytest.fixture(scope="session")
def empty_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A workspace just made."""
    folder = tmp_path_factory.mktemp("empty")
    found = Site("", folder / "fresh", _environment(folder))
    subprocess.run(
        [sys.executable, "-m", "interlock", "init", str(found.root)], env=found.environment, check=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    process = _serve(found)
    yield found
    _stop(process)


# One module's, not the session's: playwright's loop runs in this thread and would be in the way of asynchronous tests.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:  # Any: playwright is not imported where no browser is
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium here; name one with CHROMIUM=/path")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Tabs:
    """Opens pages and remembers what their consoles complained about."""

    browser: Any
    base: str
    complaints: list[str] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)

    def open(self, path: str, *, width: int = 1280, base: str | None = None, **options: Any) -> Any:
        context = self.browser.new_context(
            viewport={"width": width, "height": 900}, base_url=base or self.base, **options
        )
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.goto(path)
        return page

    def _note(self, said: Any) -> None:
        # A refused page is told by the browser as an error too; the tests of refusals look at the page itself.
        if said.type == "error" and "Failed to load resource" not in said.text:
            self.complaints.append(said.text)


@pytest.fixture
def tabs(chromium: Any, site: Site) -> Iterator[Tabs]:
    yield from watched_tabs(chromium, site)


def watched_tabs(browser: Any, site: Site) -> Iterator[Tabs]:
    """Pages of `site`; afterwards none may have complained."""
    found = Tabs(browser, site.url)
    yield found
    for context in found.contexts:
        context.close()
    assert found.complaints == [], "a page complained: a script failed or the content policy was broken"


def sign_in(page: Any, name: str, password: str = PASSWORD) -> None:
    page.goto("/sign-in")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", password)
    # The answer sets the session: a page asked for before it has come would be asked for without one.
    with page.expect_navigation():
        page.click("main button.primary")
