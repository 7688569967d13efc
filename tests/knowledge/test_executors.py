"""An ingest gives the same on every executor: inline, in worker processes, on a Ray cluster of this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from docx import Document
from tests.knowledge.conftest import OPERATOR
from tests.knowledge.ending import Deadly

from interlock.core import plugins
from interlock.core.errors import MissingExtra, Unavailable
from interlock.flows.scanning import DocumentScanner
from interlock.knowledge import KnowledgeService, KnowledgeSettings, parse_spec
from interlock.serving.service import default_models_dir
from interlock.stores.blob.files import FileBlobs
from interlock.stores.compute.settings import ComputeChoice, ComputeSettings
from interlock.stores.index.sqlite import SqliteIndex
from interlock.stores.sql import open_sql
from interlock.testing.embedders import HashEmbedder

KINDS = ("inline", "processes", "ray")
pytestmark = pytest.mark.timeout(300)


def write_documents(folder: Path) -> None:
    """Notes with a common footer and a card number here and there, copies, tables, and files that cannot be read."""
    for number in range(40):
        words = " ".join(f"{word}{number % 7}" for word in ("sensor", "return", "damage", "invoice", "delay")) * 3
        secret = "Card 4111 1111 1111 1111 was used." if number % 9 == 0 else ""
        text = f"# Note {number}\n\n{words}. {secret}\n\n## More of {number}\n\nIt ends with {number * 37}.\n\n"
        (folder / f"{number:02}.md").write_text(text + "Ask the owner of this handbook before you copy this page.\n")
    (folder / "copy-of-11.md").write_text((folder / "11.md").read_text())
    (folder / "numbers.csv").write_text("part,price\n" + "\n".join(f"p{n},{n * 3}" for n in range(60)))
    document = Document()
    document.add_heading("Report")
    document.add_paragraph("The quarterly report says that the sensor is late.")
    document.save(str(folder / "report.docx"))
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 and then nothing that a zip file has")
    (folder / "empty.md").write_text("\n")
    (folder / "long.md").write_text("# Long\n\n" + "word " * 20_000)


class Place:
    """A service over stores of its own, and a shared folder of documents."""

    def __init__(self, folder: Path, documents: Path, kind: str, **more) -> None:
        folder.mkdir()
        self.folder, self.documents = folder, documents
        self.sql = open_sql(f"sqlite:///{folder}/control.db")
        self.blobs, self.index = FileBlobs(folder / "blobs"), SqliteIndex(folder / "index")
        models = Path(os.environ.get("INTERLOCK_MODELS_DIR") or default_models_dir())
        self.knowledge = KnowledgeService(
            self.sql,
            self.blobs,
            self.index,
            settings=KnowledgeSettings(models=models, batch_passages=8, max_file_bytes=2_000_000),
            scanner=DocumentScanner(),
            compute=ComputeSettings(executor=kind, workers=2),
            **more,
        )

    async def ingest(self, choice=None):
        values = {
            "collection": "docs",
            "sources": [{"path": str(self.documents), "pii": "redact"}],
            "permissions": [{"match": "**", "readers": ["public"]}],
        }
        spec = parse_spec(values, base=self.documents.parent, name="docs.yaml")
        return replace(await self.knowledge.ingest(OPERATOR, spec, compute=choice), seconds=0.0)

    async def close(self) -> None:
        await self.index.close()
        await self.blobs.close()
        await self.sql.close()

    def stored(self) -> dict[str, object]:
        """Everything that is kept, but for the times of day."""
        files = [self.folder / "control.db", *sorted(p for p in (self.folder / "index").rglob("*") if p.is_file())]
        assert len(files) == 2
        blobs = sorted(p.name for p in (self.folder / "blobs").rglob("*") if p.is_file())
        return {"blobs": blobs, **{f"{n} {table}": rows for n, file in enumerate(files) for table, rows in dump(file)}}


# The version that a folder gives a file has its times in it; a file's revision begins at random.
_TIMES = re.compile(r'"judged_at": "[^"]*"|\d{19}-\d{19}-\d+-\d+|(?<=^\[1, )\d+(?=\]$)')


def dump(file: Path):
    from pysqlite3 import dbapi2

    with dbapi2.connect(file) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type='table' ORDER BY name")]
        for name in names:
            try:
                rows = db.execute(f'SELECT * FROM "{name}"')
            except dbapi2.OperationalError:
                continue  # a virtual table whose module is not loaded: its own tables are among these
            keep = [at for at, column in enumerate(rows.description) if not column[0].endswith(("_at", "_ns"))]
            yield name, sorted(_TIMES.sub("", repr([row[at] for at in keep])) for row in rows)


@pytest.mark.model
async def test_index_registry_and_report_are_the_same_byte_for_byte(tmp_path):
    originals, documents = tmp_path / "originals", tmp_path / "documents"
    originals.mkdir()
    write_documents(originals)
    seen = {}
    for kind in KINDS:
        shutil.rmtree(documents, ignore_errors=True)
        shutil.copytree(originals, documents)
        place = Place(tmp_path / kind, documents, kind)
        await place.sql.migrate()
        first = await place.ingest()
        (documents / "03.md").write_text("# Note 3\n\nIt was edited.\n")
        (documents / "04.md").rename(documents / "moved.md")
        second = await place.ingest()
        await place.close()
        seen[kind] = first, second, place.stored()
    first, second, stored = seen["inline"]
    assert (first.added, second.changed, second.added, second.deleted) == (44, 1, 1, 1)
    assert {failure.source: failure.code for failure in first.failed} == {
        "broken.docx": "damaged_document",
        "empty.md": "empty_document",
    }
    assert first.redacted and first.duplicates and first.left_out and first.embedding_tokens
    assert sum(len(rows) for rows in stored.values()) > 400
    for kind in ("processes", "ray"):
        assert seen[kind][:2] == (first, second)
        assert seen[kind][2].keys() == stored.keys()
        for name, rows in stored.items():
            assert seen[kind][2][name] == rows, name


@pytest.mark.parametrize("kind", ["processes", "ray"])
async def test_a_run_survives_the_death_of_workers(kind, tmp_path):
    documents = tmp_path / "documents"
    documents.mkdir()
    write_documents(documents)
    place = Place(tmp_path / kind, documents, kind, embedder=Deadly(tmp_path / "embedded", 2))
    await place.sql.migrate()
    report = await place.ingest()
    assert report.added == 44
    again = await place.ingest()
    assert (again.unchanged, again.embedding_tokens) == (44, 0)
    await place.close()


@pytest.mark.parametrize("kind", ["processes", "ray"])
async def test_what_was_stored_before_workers_ended_for_good_is_not_embedded_again(kind, tmp_path):
    documents = tmp_path / "documents"
    documents.mkdir()
    write_documents(documents)
    place = Place(tmp_path / kind, documents, kind, embedder=Deadly(tmp_path / "embedded", 99))
    await place.sql.migrate()
    with pytest.raises(Unavailable) as told:
        await place.ingest()
    assert told.value.code == "worker_lost"
    (tmp_path / "embedded").write_text("x" * 100)
    report = await place.ingest(ComputeChoice("inline"))
    assert report.added + report.unchanged == 44
    await place.close()


LOADER = """
import os, signal

class Ends:
    version, suffixes, isolated = "ends/1", frozenset({".ends"}), False

    def load(self, data, name):
        os.kill(os.getpid(), signal.SIGKILL)

plugin = Ends()
"""


async def test_a_file_that_ends_every_worker_is_one_failed_file(tmp_path, monkeypatch):
    folder = tmp_path / "plug" / "ends-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: ends\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[interlock.loader]\nends = ends_loader:plugin\n")
    (tmp_path / "plug" / "ends_loader.py").write_text(LOADER)
    monkeypatch.syspath_prepend(tmp_path / "plug")
    plugins._entry_points.cache_clear()
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "a.md").write_text("# A\n\nThe first.\n")
    (documents / "b.ends").write_text("x")
    (documents / "c.md").write_text("# C\n\nThe last.\n")
    place = Place(tmp_path / "processes", documents, "processes", embedder=HashEmbedder())
    await place.sql.migrate()
    try:
        report = await place.ingest()
    finally:
        plugins._entry_points.cache_clear()
        await place.close()
    assert (report.added, [(f.source, f.code) for f in report.failed]) == (2, [("b.ends", "parser_crashed")])


async def test_a_run_is_refused_before_it_reads_anything_when_ray_is_missing_or_away(tmp_path, monkeypatch):
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "a.md").write_text("# A\n\nThe first.\n")
    place = Place(tmp_path / "ray", documents, "ray", embedder=HashEmbedder())
    await place.sql.migrate()
    place.knowledge._compute = ComputeSettings(executor="ray", address="127.0.0.1:9")
    with pytest.raises(Unavailable, match="no Ray cluster answers"):
        await place.ingest()
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    with pytest.raises(MissingExtra, match="its library is not installed") as told:
        await place.ingest()
    monkeypatch.undo()
    assert told.value.hint is not None
    assert "interlock[ray]" in told.value.hint
    assert not await place.knowledge.documents(OPERATOR)
    await place.close()
