"""A code set from what is installed: functions of permissively licensed packages, asked for by their own docstrings.

The first sentence of a docstring is the question, the function without its docstring is the answer; functions whose
question names them outright stay in, as people name what they look for. Packages and their licences are listed below;
nothing of them is kept in the repository.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.retrieval import Bm25
from interlock.evals.judged import JudgedQuestion
from interlock.evals.ranking import MEASURES
from interlock.flows.retrieval_eval import CUTS, ScoredQuestion

__all__ = ["PACKAGES", "code_set", "plain_words"]

PACKAGES = ("click", "starlette", "jinja2", "sqlalchemy", "pydantic", "anyio", "rich", "numpy", "msgspec", "uvicorn")
"""MIT, BSD-3-Clause or Apache-2.0 each."""
_PER_PACKAGE = 120
_WORD = re.compile(r"\w+")


def code_set(home: Path) -> Path:
    """Write functions and questions below `home`, once; gives the folder."""
    folder = home / "set"
    functions = folder / "functions"
    if (folder / "qrels.tsv").exists():
        return folder
    functions.mkdir(parents=True, exist_ok=True)
    questions, judgements = [], ["query-id\tcorpus-id\tscore"]
    for package in PACKAGES:
        for number, (name, sentence, source) in enumerate(_functions(package)):
            if number >= _PER_PACKAGE:
                break
            path = f"{package}/{name}-{number}.txt"
            (functions / package).mkdir(exist_ok=True)
            (functions / path).write_text(source, "utf-8")
            questions.append(json.dumps({"_id": path, "text": sentence}))
            judgements.append(f"{path}\t{path}\t1")
    (folder / "queries.jsonl").write_text("\n".join(questions) + "\n", "utf-8")
    (folder / "qrels.tsv").write_text("\n".join(judgements) + "\n", "utf-8")
    return folder


def _functions(package: str) -> Iterator[tuple[str, str, str]]:
    """(name, first sentence of the docstring, source without it), in file order."""
    found = importlib.util.find_spec(package)
    assert found is not None, package
    assert found.origin is not None, package
    for path in sorted(Path(found.origin).parent.rglob("*.py")):
        if {"tests", "testing"} & set(path.parts):
            continue
        text = path.read_text("utf-8", "replace")
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            docstring = ast.get_docstring(node)
            if not docstring or len(node.body) < 2 or node.name.startswith("__"):
                continue
            sentence = " ".join(docstring.split("\n\n")[0].split()).split(". ")[0]
            lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
            first = node.body[0]
            assert first.end_lineno is not None
            body = lines[: first.lineno - node.lineno] + lines[first.end_lineno - node.lineno + 1 :]
            if 5 <= len(sentence.split()) <= 40 and len(body) >= 3:
                yield node.name, sentence, "\n".join(body) + "\n"


def plain_words(folder: Path, questions: Sequence[JudgedQuestion]) -> list[ScoredQuestion]:
    """BM25 over lower-case words as prose has them: what a search without our analyser would do."""
    paths = sorted((folder / "functions").rglob("*.txt"))
    names = [path.relative_to(folder / "functions").as_posix() for path in paths]
    leg = Bm25([_WORD.findall(path.read_text("utf-8").lower()) for path in paths])
    found = []
    for question in questions:
        ranking = tuple(names[row] for row in leg.top(_WORD.findall(question.text.lower()), 100))
        scores = {f"{name}@{k}": MEASURES[name](ranking, question.relevant, k) for name, k in CUTS.items()}
        found.append(ScoredQuestion(question.id, ranking, scores))
    return found
