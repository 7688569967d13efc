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
