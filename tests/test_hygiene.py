"""What a repository must not hold, and what every part must."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "interlock"
PARTS = [
    "access", "gateway", "knowledge", "prompts", "releases", "agents", "guardrails", "evals", "observe", "cost",
    "tuning", "serving", "governance",
]  # fmt: skip
_MOST_BYTES = 1_500_000
# Written in pieces, so that this file does not find itself.
_REGISTRIES = re.compile(
    r"(?:files\.pythonhosted|test\.pypi|pypi\.python|registry\.npm"
    + r"js|conda\.anaconda|proxy\.golang|index\.crates)\."
    r"|artifac" + r"tory|jfrog\.io|/simple/(?:\s|$)|--(?:extra-)?index-" + r"url[ =]\S+://|trusted-" + r"host"
)
_MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:home|Users|root|work" + r"space|mnt|tmp/wt|work/(?:main|shared))/[\w.-]+")


def tracked():
    if not (ROOT / ".git").exists():
        # An archive of the sources: everything but what the tests and the build leave behind.
        left = {".venv", ".interlock", "__pycache__", ".mypy_cache", ".ruff_cache", ".hypothesis", "dist", "build"}
        return [path for path in ROOT.rglob("*") if path.is_file() and not left & set(path.relative_to(ROOT).parts)]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def texts():
    for path in tracked():
        try:
            yield path, path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


def found(pattern):
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_package_registry():
    assert found(_REGISTRIES) == []


def test_no_file_names_a_folder_of_one_machine():
    assert found(_MACHINE_PATHS) == []


def test_no_file_is_large():
    large = {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked() if p.stat().st_size > _MOST_BYTES}
    assert large == {}


def test_no_file_holds_a_credential():
    shapes = re.compile(
        r"AKIA[0-9A-Z]{16}|ghp_[A-Za-z0-9]{36}|sk-ant-api03-[A-Za-z0-9_-]{40}|xox[bp]-\d{10,}-[A-Za-z0-9]{20}"
    )
    assert found(shapes) == []


@pytest.mark.parametrize("part", [name for name in PARTS if (SOURCE / name).is_dir()])
def test_every_part_says_what_it_is_for(part):
    readme = (SOURCE / part / "README.md").read_text()
    assert readme.startswith("# ")
    assert (SOURCE / part / "__init__.py").read_text().startswith('"""')


def public_modules():
    for path in sorted(SOURCE.rglob("*.py")):
        steps = path.relative_to(SOURCE).parts
        if any(step.startswith("_") and step != "__init__.py" for step in steps) or "versions" in steps:
            continue
        if steps[-1] == "__init__.py" or "migrations" in steps:
            continue
        yield path


def test_every_public_module_says_what_it_exports():
    without = []
    for path in public_modules():
        tree = ast.parse(path.read_text())
        names = [
            t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
        ]
        if "__all__" not in names:
            without.append(str(path.relative_to(SOURCE)))
    assert without == []


def test_every_module_begins_by_saying_what_it_is():
    silent = [
        str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py") if not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert silent == []


def test_nobody_catches_everything_in_silence():
    silent = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            broad = isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"})
            )
            if broad and all(isinstance(step, ast.Pass) for step in node.body):
                silent.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert silent == []
