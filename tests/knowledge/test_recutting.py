"""A collection cut otherwise beside itself is what an ingest would give; and what trials leave goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from interlock.core.errors import Conflict, Misconfigured
from interlock.core.ids import TenantId
from interlock.knowledge import KnowledgeService, KnowledgeSettings
from interlock.knowledge.chunkers import chunkers
from interlock.knowledge.scratch import Results, forget_scratch, scratch, sweep
from interlock.knowledge.settings import ChunkingSettings, CollectionSettings
from interlock.knowledge.vector_log import RememberingEmbedder
from interlock.stores.index.sqlite import SqliteIndex

from .conftest import OPERATOR, caller

SMALL = ChunkingSettings(max_words=40, overlap_sentences=1)
LONG = "\n\n".join(
    f"Bird number {n} nests in hall {n} of the house by the river. It sings at hour {n} and eats what is left there."
    for n in range(30)
)
RULES = [{"match": "pay/*", "readers": ["group:finance"]}, {"match": "**", "readers": ["public"]}]


def with_chunking(house, chunking, **more):
    settings = KnowledgeSettings(batch_passages=4, collections={"docs": CollectionSettings(chunking=chunking)}, **more)
    return KnowledgeService(house.sql, house.blobs, house.index, settings=settings, embedder=house.embedder)


async def passages(knowledge, ctx):
    """Spans with scores. The trial's index is embedded, and scores of two back ends agree to three places."""
    found = await knowledge.search(ctx, "which bird nests in hall 7?", collection="docs", limit=50)
    return {(one.source, one.span): pytest.approx(one.score, abs=1e-3) for one in found}


async def test_recut_passages_are_those_of_an_ingest_with_the_same_settings(house, tmp_path):
    house.write("birds.md", f"# Birds\n\n{LONG}\n")
    house.write("pay/wages.md", f"# Wages\n\n{LONG.replace('Bird', 'Owl')}\n")
    await house.ingest(permissions=RULES)
    before = await passages(house.knowledge, caller())
    embedder = RememberingEmbedder(house.embedder, tmp_path)
    index = SqliteIndex(tmp_path / "beside")
    written = await house.knowledge.recut(OPERATOR, "docs", SMALL, index=index, embedder=embedder)
    assert embedder.embedded > 0
    beside = house.knowledge.over(index, embedder=embedder)
    trial = {who: await passages(beside, ctx) for who, ctx in (("all", caller()), ("fay", caller("finance")))}
    assert {source for source, _ in trial["all"]} == {"birds.md"}
    assert {source for source, _ in trial["fay"]} == {"birds.md", "pay/wages.md"}
    assert await passages(house.knowledge, caller()) == before
    seen = embedder.embedded
    again = SqliteIndex(tmp_path / "again")
    await house.knowledge.recut(OPERATOR, "docs", SMALL, index=again, embedder=embedder)
    assert embedder.embedded == seen
    await index.close()
    await again.close()
    # A change of the setting cuts anew at the next ingest, and gives just that.
    cut = with_chunking(house, SMALL)
    report = await cut.ingest(OPERATOR, house.spec(permissions=RULES))
    assert (report.changed, report.passages) == (2, written)
    assert await passages(cut, caller()) == trial["all"]
    assert await passages(cut, caller("finance")) == trial["fay"]
    assert (await cut.ingest(OPERATOR, house.spec(permissions=RULES))).unchanged == 2


async def test_another_chunker_refuses_settings_by_name(house, monkeypatch):
    class Whole:
        version = "whole/1"

        def chunk(self, document, *, count_tokens, max_tokens):
            return []

    # As a third party's plug-in that was found and imported.
    monkeypatch.setitem(chunkers._loaded, "whole", Whole())
    house.write("birds.md", f"# Birds\n\n{LONG}\n")
    with pytest.raises(Misconfigured, match="takes no settings"):
        await with_chunking(house, SMALL, chunker="whole").ingest(OPERATOR, house.spec())


async def test_a_vector_is_read_back_as_it_was_and_half_a_record_is_cut_off(house, tmp_path):
    first = RememberingEmbedder(house.embedder, tmp_path)
    wanted = await house.embedder.embed(["a b", "c d"], "passage")
    assert np.array_equal(await first.embed(["a b", "c d", "a b"], "passage"), wanted[[0, 1, 0]])
    (file,) = tmp_path.glob("vectors-*.bin")
    with file.open("ab") as handle:
        handle.write(b"half of a record")
    second = RememberingEmbedder(house.embedder, tmp_path)
    assert np.array_equal(await second.embed(["c d"], "passage"), wanted[1:])
    assert second.embedded == 0
    await second.embed(["c d"], "query")
    assert second.embedded == 1, "a question is another text than a passage of the same words"
    assert (await second.embed([], "passage")).shape == (0, house.embedder.dimensions)


def test_results_of_a_killed_run_stand_up_to_the_line_it_was_killed_in(tmp_path):
    path = tmp_path / "results.jsonl"
    results = Results(path, "b1")
    results.put("one", [[0.5, 1.0]])
    with path.open("a") as file:
        file.write('{"trial": "two", "sco')
    again = Results(path, "b1")
    assert (again.get("one"), again.get("two")) == ([[0.5, 1.0]], None)
    again.put("two", [[0.1]])
    assert Results(path, "b1").get("two") == [[0.1]]
    # Other questions, or another state of the documents.
    assert Results(path, "b2").get("one") is None
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"basis": "b2"}]


def test_what_a_killed_run_left_is_removed_later_and_a_running_one_is_left_alone(tmp_path):
    script = """
        import sys, time
        from pathlib import Path
        from interlock.knowledge.scratch import scratch
        with scratch(Path(sys.argv[1]), "acme", "docs") as place:
            (place.folder / "index-x").mkdir()
            (place.folder / "vectors-x.bin").write_bytes(b"x")
            print("there", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], stdout=subprocess.PIPE, text=True,
        env={**os.environ},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    with pytest.raises(Conflict), scratch(tmp_path, TenantId("acme"), "docs"):
        pass
    assert sweep(tmp_path, older_than_s=-1) == 0
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
    process.stdout.close()
    assert sweep(tmp_path) == 0, "the next run may go on for an hour"
    assert sweep(tmp_path, older_than_s=-1) == 1
    (folder,) = tmp_path.iterdir()
    assert [entry.name for entry in folder.iterdir()] == ["lock"]


async def test_erasing_reaches_what_trials_hold(house, tmp_path):
    knowledge = KnowledgeService(
        house.sql, house.blobs, house.index, settings=KnowledgeSettings(), embedder=house.embedder, scratch=tmp_path
    )
    house.write("birds.md", f"# Birds\n\n{LONG}\n")
    await knowledge.ingest(OPERATOR, house.spec())
    (info,) = await knowledge.documents(OPERATOR, collection="docs")
    with scratch(tmp_path, OPERATOR.tenant, "docs") as place:
        (place.folder / "vectors-x.bin").write_bytes(b"x")
        await knowledge.delete(OPERATOR, info.id)
        assert [entry.name for entry in place.folder.iterdir()] == ["lock"]
    forget_scratch(tmp_path, OPERATOR.tenant, "none of these")
