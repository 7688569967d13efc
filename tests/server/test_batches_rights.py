"""Results of a batch are given while its owner may read what each was made from, and go when that is erased."""

from __future__ import annotations

import asyncio
import time

import anthropic
import openai
import pytest
import sqlalchemy as sa

from interlock.app import open_app
from interlock.flows.erasures import Erasure, erase
from interlock.gateway.store import files

from .conftest import open_site
from .test_batches import line, rows, until_ended, upload

pytestmark = pytest.mark.model
QUESTION = "What is the salary band of a senior engineer in Leeds?"
OPEN = "How many days have customers to return hardware?"
SECRET = "61,000"


def fay(site, *groups):
    """The same person, with the groups of the moment."""
    return openai.OpenAI(
        base_url=f"{site.url}/v1",
        api_key=site.keys["plain"],
        default_headers={"x-interlock-on-behalf-of": site.token(groups=list(groups))},
        max_retries=0,
        timeout=60,
    )


@pytest.fixture
def before(site):
    with fay(site, "finance") as client:
        yield client


@pytest.fixture
def after(site):
    with fay(site) as client:
        yield client


def lines(url="/v1/chat/completions"):
    asked = [line(1, OPEN, "app/helper", url), line(2, QUESTION, "app/helper", url), line(3, "hello", "scripted", url)]
    if url == "/v1/responses":
        for row in asked:
            row["body"] = {"model": row["body"]["model"], "input": row["body"]["messages"][0]["content"]}
    return asked


def run(client, url="/v1/chat/completions", asked=None):
    batch = client.batches.create(
        input_file_id=upload(client, asked or lines(url)).id, endpoint=url, completion_window="24h"
    )
    batch = until_ended(client, batch)
    assert batch.status == "completed"
    return batch


@pytest.mark.parametrize("url", ["/v1/chat/completions", "/v1/responses"])
def test_a_result_ends_with_the_right_to_what_it_was_made_from(before, after, url):
    file = run(before, url).output_file_id
    whole = before.files.content(file).text
    assert SECRET in whole
    seen = {row["custom_id"]: row for row in rows(after, file)}
    assert list(seen) == ["line-1", "line-2", "line-3"]
    assert SECRET not in after.files.content(file).text
    assert seen["line-2"]["response"] is None
    assert seen["line-2"]["error"]["code"] == "result_withheld"
    kept = {row["custom_id"]: row for row in rows(before, file)}
    assert seen["line-3"] == kept["line-3"]
    # Nothing was lost: who may read it again has it again.
    assert before.files.content(file).text == whole


def test_a_line_that_continues_an_answer_ends_with_it(before, after):
    first = before.responses.create(model="app/helper", input=QUESTION)
    body = {"model": "scripted", "input": "say it again", "previous_response_id": first.id}
    asked = [{"custom_id": "again", "method": "POST", "url": "/v1/responses", "body": body}]
    file = run(before, "/v1/responses", asked).output_file_id
    assert rows(before, file)[0]["response"]["status_code"] == 200
    assert rows(after, file)[0]["error"]["code"] == "result_withheld"


def test_results_of_a_message_batch_end_with_the_right(site, before):
    def client(*groups):
        token = {"x-interlock-on-behalf-of": site.token(groups=list(groups))}
        return anthropic.Anthropic(
            base_url=site.url, api_key=site.keys["plain"], default_headers=token, max_retries=0, timeout=60
        )

    with client("finance") as mine, client() as later:
        content = {"model": "app/helper", "max_tokens": 200, "messages": [{"role": "user", "content": QUESTION}]}
        made = mine.messages.batches.create(requests=[{"custom_id": "pay", "params": content}])
        deadline = time.monotonic() + 60
        while mine.messages.batches.retrieve(made.id).processing_status != "ended" and time.monotonic() < deadline:
            time.sleep(0.1)
        told = next(iter(mine.messages.batches.results(made.id)))
        assert SECRET in told.model_dump_json()
        seen = next(iter(later.messages.batches.results(made.id)))
        assert (seen.custom_id, seen.result.type) == ("pay", "errored")
        assert seen.result.error.error.type == "not_found_error"
        assert SECRET not in seen.model_dump_json()


def test_results_of_an_older_release_are_withheld_by_the_documents_they_name(site, before, after):
    file = run(before).output_file_id

    async def make_older():
        async with open_app(site.workspace) as app:
            kept = app.parts.kept
            row = (await app.sql.read(lambda c: c.execute(sa.select(files).where(files.c.id == file)).one()))._mapping
            sealed = (await kept._blobs.get(row["tenant"], row["digest"])).split(b"\n")[0]
            digest = await kept._blobs.put(row["tenant"], sealed)
            await app.sql.write(lambda c: c.execute(sa.update(files).where(files.c.id == file).values(digest=digest)))

    whole = before.files.content(file).text
    asyncio.run(make_older())
    assert before.files.content(file).text == whole
    assert SECRET not in after.files.content(file).text
    assert len(rows(after, file)) == 3


def test_erasing_a_document_removes_the_results_made_from_it(tmp_path, models_dir):
    with open_site(tmp_path / "own", models_dir) as own, fay(own, "finance") as client:
        file = run(client).output_file_id

        async def erased():
            async with open_app(own.workspace) as app:
                name = (await app.parts.knowledge.sources(app.owner(), app.source_spec("docs")))[0].name
                certificate = await erase(app.parts, app.owner(), Erasure("source", name, "docs"))
                row = await app.sql.read(lambda c: c.execute(sa.select(files).where(files.c.id == file)).one())
                sealed = (await app.parts.kept._blobs.get(row.tenant, row.digest)).decode().split("\n")[0]
                return certificate.content, row, app.parts.kept._sealer.open(sealed, f"file:acme:{file}")

        certificate, row, text = asyncio.run(erased())
        assert certificate["removed"]["batch_results"] == 2
        assert certificate["looked_at_again"]["batch_results"] == 0
        assert certificate["complete"]
        assert not any("batches" in remark for remark in certificate["remains"])
        assert SECRET not in text
        assert row.size_bytes == len(text.encode())
        found = {row["custom_id"]: row for row in rows(client, file)}
        assert [found[f"line-{n}"]["error"] and found[f"line-{n}"]["error"]["code"] for n in (1, 2, 3)] == [
            "result_withheld",
            "result_withheld",
            None,
        ]
