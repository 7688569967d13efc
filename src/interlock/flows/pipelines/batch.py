"""Files and tables through a pipeline, row by row: each result with where it comes from, and nothing done twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from anyio import to_thread

from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.core.messages import ChatRequest, TextDelta, text_message
from interlock.core.release import Release
from interlock.evals.formats._lines import json_lines
from interlock.evals.formats._tables import csv_rows
from interlock.flows.chat import Receipt, chat
from interlock.flows.parts import Parts
from interlock.flows.pipelines.merging import places
from interlock.flows.pipelines.splitting import parts_of
from interlock.flows.pipelines.types import PipelineSpec, pipeline_of
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.parsing import Parser
from interlock.knowledge.settings import KnowledgeSettings

__all__ = ["BatchAsked", "BatchDone", "Progress", "Row", "rows_of", "run_batch"]

_MOST_FILE_BYTES = 64 << 20
_MOST_ROWS = 1_000_000
_TABLES = frozenset({".csv", ".tsv", ".jsonl"})


@dataclass(frozen=True, slots=True)
class Row:
    """One text."""

    id: str
    """File, or file and row: ``letters.csv#12``. A file of a folder by its path in it: ``may/letters.csv#12``."""
    text: str | None
    """None where it could not be read."""
    sha256: str
    """Of the text."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class BatchAsked:
    """What is worked through."""

    inputs: Sequence[Path]
    out: Path
    """JSONL; what stands in it is not done again."""
    column: str = "text"
    """Of tables: where the text is."""
    concurrency: int = 4
    max_cost_usd: float | None = None
    report: Callable[[Progress], None] | None = None


class Progress(NamedTuple):
    """How far it is."""

    done: int
    failed: int
    cost_nano: int
    kept: int
    """Rows that an earlier run had done."""


@dataclass(frozen=True, slots=True)
class BatchDone:
    """What came out."""

    app: str
    release: str
    rows: int
    done: int
    kept: int
    failed: int
    cost_nano: int
    ended: str
    """``finished`` or ``budget``."""
    out: str


async def run_batch(
    parts: Parts, ctx: Context, release: Release, asked: BatchAsked, *, files: KnowledgeSettings
) -> BatchDone:
    """Work through every row that the output does not hold yet of this release and this text.

    A row is written when it is done, so that nothing is lost whenever it ends; one that failed is tried again by the
    next run. The order of lines is that in which rows were done.

    Args:
        files: how long and with how much memory a file is read.

    Raises: InvalidInput: no pipeline, an input that is no file, no such column; what stops every row (no model).
    """
    spec = pipeline_of(release)
    if spec is None:
        raise InvalidInput(
            f"the app {release.app!r} works through no text", param="app", hint="give its app.yaml a `pipeline`"
        )
    known = await to_thread.run_sync(_known, asked.out, release.id)
    run = _Run(parts, ctx, release, spec, asked)
    gate = asyncio.Semaphore(asked.concurrency)
    stopped: list[InterlockError] = []
    with _opened(asked.out) as out:

        async def one(row: Row) -> None:
            try:
                line = await run.work(row)
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                out.flush()
            except InterlockError as error:
                stopped.append(error)
            finally:
                gate.release()

        async with asyncio.TaskGroup() as group, aclosing(rows_of(asked, files)) as rows:
            try:
                async for row in rows:
                    run.rows += 1
                    if run.rows > _MOST_ROWS:
                        raise InvalidInput(f"more than {_MOST_ROWS:,} rows", param="inputs", hint="split them")
                    if (row.id, row.sha256) in known:
                        run.kept += 1
                        continue
                    await gate.acquire()
                    if run.is_spent or stopped:
                        gate.release()
                        break
                    group.create_task(one(row))
            except InterlockError as error:
                # Told by itself, once what is under way has been written down.
                stopped.append(error)
        os.fsync(out.fileno())
    if stopped:
        raise stopped[0]
    ended = "budget" if run.is_spent else "finished"
    return BatchDone(
        release.app, release.id, run.rows, run.done, run.kept, run.failed, run.cost_nano, ended, str(asked.out)
    )


def _opened(out: Path) -> TextIO:
    try:
        return out.open("a", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{out.name!r} cannot be written: {error.strerror}", param="out") from error


class _Run:
    def __init__(self, parts: Parts, ctx: Context, release: Release, spec: PipelineSpec, asked: BatchAsked) -> None:
        self._parts, self._ctx, self._release, self._spec, self._asked = parts, ctx, release, spec, asked
        self.rows = self.done = self.kept = self.failed = self.cost_nano = 0

    @property
    def is_spent(self) -> bool:
        """Whether the budget leaves nothing for a further row."""
        most = self._asked.max_cost_usd
        return most is not None and self.cost_nano >= most * 1e9

    # Any: JSON values
    async def work(self, row: Row) -> dict[str, Any]:
        """The line of one row. Raises: what no further row would be spared."""
        line: dict[str, Any] = {"id": row.id, "sha256": row.sha256, "app": self._release.app}
        line["release"] = self._release.id
        began = time.perf_counter()
        try:
            if row.text is None:
                raise InvalidInput(row.error, param=row.id)
            line |= await self._asked_for(row.text)
            self.done += 1
        except InterlockError as error:
            if error.code in _STOPS:
                raise
            self.failed += 1
            line["error"] = {"code": error.code, "message": error.message[:500]}
        line["seconds"] = round(time.perf_counter() - began, 3)
        if self._asked.report is not None:
            self._asked.report(Progress(self.done, self.failed, self.cost_nano, self.kept))
        return line

    async def _asked_for(self, text: str) -> dict[str, Any]:
        spans = parts_of(text, self._spec)
        request = ChatRequest(f"app/{self._release.app}", (text_message("user", text),))
        pieces: list[str] = []
        receipt: Receipt | None = None
        async with aclosing(chat(self._parts, self._ctx, request, self._release)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    pieces.append(event.text)
                elif isinstance(event, Receipt):
                    receipt = event
        assert receipt is not None, "a stream ends with its receipt or raises"
        cost = None if receipt.cost is None else receipt.cost.nano
        self.cost_nano += cost or 0
        told = "".join(pieces)
        found: dict[str, Any] = {
            "output": told,
            "parts": [[span.start, span.end] for span in spans],
            "model": receipt.model,
            "cost_nano": cost,
            "trace": receipt.trace_id,
        }
        if self._spec.kind == "extract":
            found["output"] = json.loads(told)
            found["places"] = {path: [at.start, at.end] for path, at in places(text, found["output"]).items()}
        elif self._spec.kind == "classify" and self._spec.several:
            found["output"] = json.loads(told)
        return found


_STOPS = frozenset({"misconfigured", "missing_extra", "model_missing", "permission_denied", "not_found"})
"""Errors that no further row would be spared."""


async def rows_of(asked: BatchAsked, files: KnowledgeSettings) -> AsyncGenerator[Row, None]:
    """Every text of the inputs, in order: a table's rows by their column, other files as the loaders read them.

    Raises: NotFound; InvalidInput: a table without the column.
    """
    for given in asked.inputs:
        if not given.exists():
            raise NotFound(f"there is no file {str(given)!r}", param="inputs")
    async with AsyncExitStack() as stack:
        parser: Parser | None = None
        for file, name in _named(asked.inputs).items():
            if file.suffix.lower() in _TABLES:
                for row in _table(file, name, asked.column):
                    yield row
                continue
            if parser is None:
                made = Parser(timeout_s=files.parse_timeout_s, memory_bytes=files.parse_memory_bytes)
                parser = await stack.enter_async_context(made)
            yield await _document(parser, file, name)


def _named(inputs: Sequence[Path]) -> dict[Path, str]:
    """Every file once, and what it is called: two of one name are called by the paths they were given by."""
    found: dict[Path, tuple[str, str]] = {}
    for given in inputs:
        for file in _files(given):
            short = file.relative_to(given).as_posix() if file != given else file.name
            found.setdefault(file.absolute(), (short, file.as_posix()))
    shared = Counter(short for short, _ in found.values())
    return {file: whole if shared[short] > 1 else short for file, (short, whole) in found.items()}


def _files(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    return [file for file in sorted(given.rglob("*")) if file.is_file() and not file.name.startswith(".")]


def _table(file: Path, called: str, column: str) -> Iterator[Row]:
    taken: set[str] = set()
    lines = json_lines(file) if file.suffix.lower() == ".jsonl" else csv_rows(file)
    for number, (where, cells) in enumerate(lines, start=1):
        if column not in cells:
            raise InvalidInput(
                f"{where} of {file.name!r} has no {column!r}", param="column", hint=f"one of {', '.join(cells)}"[:200]
            )
        text = str(cells[column] if cells[column] is not None else "")
        name = str(cells.get("id") or number)
        while name in taken:
            name = f"{name}#{number}"
        taken.add(name)
        yield (
            Row(f"{called}#{name}", text, _digest(text))
            if text.strip()
            else Row(f"{called}#{name}", None, _digest(text), "the row is empty")
        )


async def _document(parser: Parser, file: Path, name: str) -> Row:
    loader = find_loader(file.name)
    if loader is None:
        return Row(name, None, "", "there is no loader for this kind of file")
    if file.stat().st_size > _MOST_FILE_BYTES:
        return Row(name, None, "", f"the file has more than {_MOST_FILE_BYTES >> 20} MiB")
    try:
        loaded = await parser.load(loader, await to_thread.run_sync(file.read_bytes), file.name)
    except InterlockError as error:
        return Row(name, None, "", error.message)
    if not loaded.text.strip():
        return Row(name, None, _digest(""), "the file holds no text")
    return Row(name, loaded.text, _digest(loaded.text))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _known(out: Path, release: str) -> set[tuple[str, str]]:
    """Rows that were done with this release. A line that was cut off when a run died is closed, and done again."""
    if not out.exists():
        return set()
    found: set[tuple[str, str]] = set()
    data = out.read_bytes()
    if data and not data.endswith(b"\n"):
        with out.open("ab") as file:
            file.write(b"\n")
    for number, raw in enumerate(data.splitlines(), start=1):
        try:
            line = json.loads(raw)
        except ValueError:
            if number == data.count(b"\n") + 1:
                continue  # cut off
            raise InvalidInput(
                f"line {number} of {out.name!r} is no result of a pipeline", param="out", hint="name another file"
            ) from None
        if isinstance(line, dict) and line.get("release") == release and "error" not in line:
            found.add((str(line.get("id")), str(line.get("sha256"))))
    return found


def view(done: BatchDone) -> dict[str, Any]:
    """For people and programs."""
    return asdict(done)
