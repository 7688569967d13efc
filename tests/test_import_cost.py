"""Start-up stays cheap: what must not be imported is not, whatever the machine's speed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "sqlalchemy",
    "duckdb",
    "numpy",
    "onnxruntime",
    "openai",
    "genai_prices",
    "starlette",
    "uvicorn",
    "pydantic",
    "httpx2",
    "cryptography",
    "jinja2",
    "opentelemetry",
    "rich",
    "alembic",
)


@pytest.mark.parametrize(
    "code",
    [
        "import interlock",
        "import interlock.core.errors, interlock.core.context, interlock.core.messages, interlock.core.ids",
        "import interlock.cli.root",
        "import sys; sys.argv = ['interlock', '--help']\nfrom interlock.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass",
        "import sys; sys.argv = ['interlock', '--version']\nfrom interlock.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass",
    ],
    ids=["interlock", "core", "cli", "--help", "--version"],
)
def test_no_heavy_library_is_imported(code):
    after = f"\nimport sys\nprint('\\n' + repr([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + after], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_parts_import_no_heavy_library_of_another():
    code = (
        "import interlock.gateway.service, interlock.access.service, interlock.governance.service\n"
        "import interlock.cost.service, interlock.flows.chat, interlock.observe.service, interlock.serving.service\n"
    )
    heavy = ("duckdb", "numpy", "onnxruntime", "openai", "genai_prices", "starlette", "xllamacpp", "jwt", "argon2")
    after = f"\nimport sys\nprint([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + after], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_gateway_that_is_up_has_imported_nothing_that_it_does_not_need(tmp_path):
    (tmp_path / "interlock.yaml").write_text(
        "gateway: {detect: false, providers: {up: {kind: openai, base_url: 'http://127.0.0.1:9', models: [m]}}}\n"
    )
    code = f"""
import asyncio, sys
from pathlib import Path
from interlock.app import open_app
from interlock.console import routes
from interlock.server.asgi import build_asgi
import interlock.server.process

async def main():
    async with open_app(Path({str(tmp_path)!r})) as app:
        build_asgi(app, routes(app))
        print([m for m in {(*_UNNEEDED,)!r} if m in sys.modules])

asyncio.run(main())
"""
    # The first start migrates.
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


_UNNEEDED = (
    *("alembic", "mako", "pygments", "jinja2", "prometheus_client", "sqlalchemy.dialects.postgresql", "duckdb"),
    *("numpy", "onnxruntime", "openai", "genai_prices", "xllamacpp", "opentelemetry", "rich", "websockets"),
)
