"""Snapshots, rollback and erasure, as operators meet them over HTTP and on the command line."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
import yaml
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import interlock.testing.postgres
import interlock.testing.s3
from interlock.app import open_app
from interlock.cli.root import cli
from interlock.console.pages import build_routes
from interlock.core.canonical import canonical_bytes
from interlock.core.context import Role
from interlock.core.errors import InvalidInput, Misconfigured
from interlock.core.ids import TenantId
from interlock.flows.ingest import KIND, enqueue_ingest, run_job
from interlock.flows.staleness import SIGNATURE, post_with, tell_changes
from interlock.gateway.kept import KeptResponse
from interlock.knowledge.settings import AlertSettings
from interlock.knowledge.store import knowledge_snapshots
from interlock.observe.exporters.openlineage import OpenLineageSink
from interlock.observe.settings import ObserveSettings
from interlock.server.asgi import build_asgi
from interlock.testing.postgres import fresh_database
from interlock.testing.s3 import BUCKET, KEY, SECRET
from interlock.testing.workspaces import write_workspace

pytestmark = pytest.mark.model
AT = "/api/v1/collections/docs"
PROVIDERS = {"scripted": {"kind": "scripted", "script": [{"reply": "The heron eats fish [1]."}]}}
ANN = "---\nsubject: ann@example.com\n---\n# Ann\n\nAnn is paid 48,211 pounds and has a parrot."


postgres_server = interlock.testing.postgres.postgres_server
s3_server = interlock.testing.s3.s3_server


@pytest.fixture(params=["files", pytest.param("servers", marks=pytest.mark.postgres)])
async def house(tmp_path, models_dir, request, monkeypatch):
    stores = {}
    if request.param == "servers":
        monkeypatch.setenv("S3_ID", KEY)
        monkeypatch.setenv("S3_SECRET", SECRET)
        url = request.getfixturevalue("s3_server").url
        stores = {
            "sql": fresh_database(request.getfixturevalue("postgres_server")),
            "blobs": f"s3://{BUCKET}/house-{uuid.uuid4().hex}",
            "s3": {"endpoint": url, "access_key_env": "S3_ID", "secret_key_env": "S3_SECRET"},
        }
    folder = write_workspace(
        tmp_path / "w",
        settings={"models_dir": str(models_dir), "gateway": {"providers": PROVIDERS}, "stores": stores},
        apps={"helper": {"route": {"targets": ["scripted"]}, "knowledge": {"collection": "docs"}}},
        documents={"a.md": "# Heron\n\nThe heron eats fish.", "ann.md": ANN},
    )
    rules = [{"match": "**", "readers": ["public"]}]
    spec = {"collection": "docs", "sources": [{"path": "../documents", "name": "files"}], "permissions": rules}
    (folder / "knowledge" / "docs.yaml").write_text(yaml.safe_dump(spec))
    async with open_app(folder) as app:
        transport = httpx2.ASGITransport(app=build_asgi(app, build_routes(app)), client=("127.0.0.1", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield app, http


async def run_all(app):
    """What the worker does."""
    while (job := await app.parts.jobs.claim("test", [KIND], lease_s=60)) is not None:
        await run_job(app.parts, app.owner(), job, app.source_spec("docs"))


async def ingest(app):
    await enqueue_ingest(app.parts, app.owner(), "docs")
    await run_all(app)


async def get(http, path):
    return (await http.get(path)).raise_for_status().json()


async def command(app, *arguments):
    done = await asyncio.to_thread(CliRunner().invoke, cli, ["-w", str(app.workspace.root), *arguments])
    assert done.exit_code == 0, done.output
    return done.output


async def found(http, query):
    answer = await http.post(f"{AT}/search", json={"query": query})
    return {row["source"]: row["text"] for row in answer.raise_for_status().json()["data"]}


async def test_a_collection_goes_back_and_on_again(house):
    app, http = house
    await ingest(app)
    first = (await get(http, f"{AT}/snapshots"))["current"]
    (app.workspace.root / "documents" / "a.md").write_text("# Heron\n\nThe heron eats frogs.")
    await ingest(app)
    told = await get(http, f"{AT}/snapshots")
    assert [one["id"] for one in told["data"]] == [told["current"], first]
    diff = await get(http, f"{AT}/diff?before={first}")
    assert [(c["after"]["source"], c["kinds"]) for c in diff["changed"]] == [("a.md", ["text"])]
    lines = json.loads(await command(app, "knowledge", "diff", "docs", first, "--text", "a.md", "--json"))["lines"]
    assert "-The heron eats fish." in lines
    assert "+The heron eats frogs." in lines
    queued = await http.post(f"{AT}/rollback", json={"snapshot": first})
    assert queued.status_code == 202
    busy = await http.post(f"{AT}/rebuild")
    assert busy.status_code == 409
    await run_all(app)
    job = await get(http, f"/api/v1/jobs/{queued.json()['job']}")
    assert job["state"] == "succeeded"
    assert "fish" in (await found(http, "what does the heron eat"))["a.md"]
    held = (await get(http, f"{AT}/snapshots"))["held"]
    assert held["snapshot"] == first
    await ingest(app)
    assert "fish" in (await found(http, "what does the heron eat"))["a.md"]
    assert "held at" in await command(app, "knowledge", "snapshots", "docs")
    assert (await http.post(f"{AT}/resume")).status_code == 200
    assert (await http.post(f"{AT}/resume")).status_code == 409
    await ingest(app)
    assert "frogs" in (await found(http, "what does the heron eat"))["a.md"]
    actions = [line.action for line in await app.parts.governance.lines(app.owner(), limit=20)]
    assert {"knowledge.rollback", "knowledge.resume"} <= set(actions)


async def test_what_is_old_is_removed_by_a_job_and_told_before(house):
    app, http = house
    await ingest(app)
    (app.workspace.root / "documents" / "a.md").write_text("# Heron\n\nThe heron eats frogs.")
    await ingest(app)
    (app.workspace.root / "documents" / "a.md").write_text("# Heron\n\nThe heron eats newts.")
    await ingest(app)

    def older(connection):
        for row in connection.execute(knowledge_snapshots.select()).all():
            where = knowledge_snapshots.c.id == row.id
            then = row.created_at - timedelta(days=50)
            connection.execute(knowledge_snapshots.update().where(where).values(created_at=then))

    await app.parts.knowledge.history._documents._sql.write(older)
    told = await http.post(f"{AT}/prune", json={"keep_days": 30, "dry_run": True})
    assert told.json()["snapshots"] == 2
    said = await command(app, "knowledge", "prune", "docs", "--keep-days", "30", "--dry-run")
    assert "2 snapshots and" in said
    queued = await http.post(f"{AT}/prune", json={"keep_days": 30})
    assert queued.status_code == 202
    await run_all(app)
    left = await get(http, f"{AT}/snapshots")
    assert [one["id"] for one in left["data"]] == [left["current"]]
    done = json.loads(await command(app, "knowledge", "prune", "docs", "--keep-days", "30", "--json"))
    assert done["snapshots"] == 0
    wrong = await http.post(f"{AT}/prune", json={"keep_days": 0})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "keep_days")
    actions = [line.action for line in await app.parts.governance.lines(app.owner(), limit=20)]
    assert "knowledge.prune" in actions


async def test_an_index_is_made_again_without_reading_anything(house):
    app, http = house
    await ingest(app)
    await app.parts.knowledge._index.drop(TenantId("acme"))
    assert await found(http, "what does the heron eat") == {}
    for path in (app.workspace.root / "documents").iterdir():
        path.unlink()
    assert (await http.post(f"{AT}/rebuild")).status_code == 202
    await run_all(app)
    assert set(await found(http, "what does the heron eat")) == {"a.md", "ann.md"}


async def test_a_person_is_erased_everywhere_with_a_certificate(house):
    app, http = house
    await ingest(app)
    first = (await get(http, f"{AT}/snapshots"))["current"]
    (app.workspace.root / "documents" / "ann.md").write_text(ANN.replace("parrot", "hamster"))
    await ingest(app)
    dry = (
        await http.post("/api/v1/erasures", json={"kind": "subject", "value": "Ann@example.com", "dry_run": True})
    ).json()
    assert [one["collection"] for one in dry["data"]] == ["docs"]
    answer = await http.post("/api/v1/erasures", json={"kind": "subject", "value": "Ann@example.com"})
    assert answer.status_code == 201
    made = answer.json()
    content = made["content"]
    assert content["complete"] is True
    assert set(content["looked_at_again"].values()) == {0}
    # Two versions: an original, a text and passages each.
    assert len(content["removed"]["blobs"]) == 6
    assert "ann" not in json.dumps(content).casefold()
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(made["public_key"]))
    key.verify(base64.b64decode(made["signature"]), b"interlock-certificate\n" + canonical_bytes(content))
    assert set(await found(http, "who has a parrot or a hamster")) <= {"a.md"}
    for digest in content["removed"]["blobs"]:
        assert not await app.parts.knowledge._blobs.exists(TenantId("acme"), digest)
    # It does not come back with the next run, nor with an older snapshot.
    await ingest(app)
    await http.post(f"{AT}/rollback", json={"snapshot": first})
    await run_all(app)
    assert set(await found(http, "who has a parrot or a hamster")) <= {"a.md"}
    assert (await get(http, "/api/v1/erasures"))["data"][0]["id"] == made["id"]
    assert json.loads(await command(app, "erase", "show", made["id"], "--json"))["is_valid"] is True
    [document] = [one["id"] for one in content["documents"]]
    assert (await http.post(f"/api/v1/documents/{document}/allow")).status_code == 200
    await http.post(f"{AT}/resume")
    await ingest(app)
    assert "ann.md" in await found(http, "who has a hamster")


async def test_a_stored_response_that_names_an_erased_document_goes_too(house):
    app, http = house
    await ingest(app)
    infos = (await get(http, "/api/v1/documents"))["data"]
    [ann] = [info["id"] for info in infos if info["source"] == "ann.md"]
    kept = app.parts.kept
    owner = app.owner()
    for name, document in (("resp_a", ann), ("resp_b", "doc_other")):
        said = {"id": name, "output": [{"id": f"msg_{name}"}], "interlock": {"citations": [{"document_id": document}]}}
        await kept.keep_response(owner, KeptResponse([], said))
    made = (await http.post("/api/v1/erasures", json={"kind": "document", "value": ann})).json()
    assert made["content"]["removed"]["stored_responses"] == 1
    assert (await kept.response(owner, "resp_b")).response["id"] == "resp_b"
    again = (await http.post("/api/v1/erasures", json={"kind": "document", "value": ann})).json()
    assert again["content"]["complete"] is True


async def test_a_source_is_erased_by_its_name(house):
    app, http = house
    await ingest(app)
    missing = await http.post("/api/v1/erasures", json={"kind": "source", "value": "nix", "collection": "docs"})
    assert missing.status_code == 404
    shown = await command(app, "erase", "source", "docs", "files", "--yes")
    assert "documents                 2" in shown
    assert (await get(http, "/api/v1/documents"))["data"] == []


async def test_only_operators_erase_and_only_overseers_go_back(house):
    app, http = house
    await ingest(app)
    first = (await get(http, f"{AT}/snapshots"))["current"]
    key = (await app.parts.access.create_key(app.owner(), name="k", roles=[Role.VIEWER], days=1)).secret
    headers = {"authorization": f"Bearer {key}"}
    for method, path, body in (
        ("GET", f"{AT}/snapshots", None),
        ("GET", f"{AT}/diff?before={first}", None),
        ("POST", f"{AT}/rollback", {"snapshot": first}),
        ("POST", f"{AT}/resume", {}),
        ("POST", f"{AT}/rebuild", {}),
        ("POST", f"{AT}/prune", {"keep_days": 1}),
        ("POST", "/api/v1/erasures", {"kind": "subject", "value": "ann@example.com"}),
        ("POST", "/api/v1/erasures", {"kind": "subject", "value": "ann@example.com", "dry_run": True}),
        ("GET", "/api/v1/erasures", None),
        ("GET", "/api/v1/erasures/crt_x", None),
        ("POST", "/api/v1/documents/doc_x/allow", {}),
    ):
        answer = await http.request(method, path, json=body, headers=headers)
        assert answer.status_code == 403, (method, path, answer.text)
    assert set(await found(http, "heron parrot")) == {"a.md", "ann.md"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/api/v1/erasures", {"kind": "planet", "value": "x"}, "kind"),
        ("/api/v1/erasures", {"kind": "document"}, "value"),
        ("/api/v1/erasures", {"kind": "document", "value": "x", "more": 1}, "more"),
        (f"{AT}/rollback", {}, "snapshot"),
        (f"{AT}/rollback", {"snapshot": "abc"}, "snapshot"),
    ],
)
async def test_what_is_wrong_names_its_field(house, path, body, param):
    _, http = house
    answer = await http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


# ── freshness told, and lineage ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def listener():
    """A real HTTP server that keeps what it is sent."""
    received, answers = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((dict(self.headers), body))
            self.send_response(answers.pop(0) if answers else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/in", received, answers
    server.shutdown()
    thread.join()
    server.server_close()


async def ask(http):
    body = {"model": "app/helper", "messages": [{"role": "user", "content": "What does the heron eat?"}]}
    return (await http.post("/v1/chat/completions", json=body)).raise_for_status().json()["interlock"]


def parsed(received):
    return [json.loads(body) for _, body in received]


async def test_a_source_that_goes_away_is_told_once_and_so_is_its_return(house, listener):
    app, http = house
    url, received, answers = listener
    settings = AlertSettings(url=url, secret_env="ALERTS")
    post = post_with(settings, {"ALERTS": "s3cret"})
    specs = [app.source_spec("docs")]

    async def look():
        return await tell_changes(app.parts, app.owner(), specs, post)

    assert await look() == []
    await ingest(app)
    assert await look() == []
    folder = app.workspace.root / "documents"
    folder.rename(folder.with_name("away"))
    with pytest.raises(InvalidInput):
        await ingest(app)
    answers.append(500)
    assert await look() == []  # it did not arrive: told again
    assert await look() == ["docs/files failing"]
    assert await look() == []
    assert (await ask(http))["stale"] is True
    folder.with_name("away").rename(folder)
    await ingest(app)
    assert await look() == ["docs/files fresh"]
    kinds = [message["type"] for message in parsed(received)]
    assert kinds == ["source.failing", "source.failing", "source.fresh"]
    assert parsed(received)[0]["error_code"]
    headers, body = received[-1]
    proof = {name.lower(): value for name, value in headers.items()}[SIGNATURE]
    assert proof == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    actions = [line.action for line in await app.parts.governance.lines(app.owner(), limit=20)]
    assert actions.count("source.failing") == 1
    text = (await http.get("/metrics")).text
    assert 'interlock_source_state{collection="docs",source="files",state="fresh"} 1.0' in text
    assert 'interlock_source_documents{collection="docs",source="files"} 2.0' in text


def test_an_alert_without_its_secret_is_a_mistake_of_the_settings():
    with pytest.raises(Misconfigured, match="ALERTS"):
        post_with(AlertSettings(url="http://127.0.0.1:9/x", secret_env="ALERTS"), {})
    assert post_with(AlertSettings(), {}) is None


_EVENT = {"eventType", "eventTime", "run", "job", "inputs", "outputs", "producer", "schemaURL"}


def is_run_event(event):
    """What the schema of OpenLineage 2.0.2 requires of a run event, and of every facet."""
    assert set(event) == _EVENT
    assert event["eventType"] in {"START", "COMPLETE", "FAIL", "ABORT"}
    datetime.fromisoformat(event["eventTime"])
    uuid.UUID(event["run"]["runId"])
    for holder in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
        for facet in holder.get("facets", {}).values():
            assert {"_producer", "_schemaURL"} <= set(facet)
    for named in (event["job"], *event["inputs"], *event["outputs"]):
        assert named["namespace"] == "interlock://acme"
        assert named["name"]


async def test_lineage_leads_from_a_source_to_an_answer(house, listener, monkeypatch):
    app, http = house
    url, received, _ = listener
    monkeypatch.setattr(app.parts.observe, "lineage", OpenLineageSink(ObserveSettings(openlineage_url=url)))
    await ingest(app)
    sent = parsed(received)
    assert [event["eventType"] for event in sent] == ["START", "COMPLETE"]
    for event in sent:
        is_run_event(event)
    current = (await get(http, f"{AT}/snapshots"))["current"]
    assert sent[1]["inputs"][0]["name"] == "sources/docs/files"
    assert sent[1]["outputs"][0]["facets"]["version"]["datasetVersion"] == current
    told = (await get(http, "/api/v1/lineage?collection=docs"))["data"]
    assert [event["run"]["runId"] for event in told] == [event["run"]["runId"] for event in sent]
    assert json.loads((await command(app, "knowledge", "lineage", "docs")).splitlines()[0])["eventType"] == "START"
    said = await ask(http)
    assert said["citations"], said
    assert (datetime.now(UTC) - datetime.fromisoformat(said["as_of"])).total_seconds() < 60
    assert said["stale"] is False
    [event] = (await get(http, f"/api/v1/lineage?answer={said['trace_id']}"))["data"]
    is_run_event(event)
    assert event["inputs"][0]["name"] == f"documents/{said['citations'][0]['document']}"
    assert event["inputs"][0]["facets"]["version"]["datasetVersion"] == said["citations"][0]["digest"]
    assert event["inputs"][0]["facets"]["interlock_citation"]["snapshot"] == current == said["snapshot"]
    assert "fish" not in json.dumps(event)
    await http.post("/api/v1/erasures", json={"kind": "document", "value": said["citations"][0]["document"]})
    [event] = (await get(http, f"/api/v1/lineage?answer={said['trace_id']}"))["data"]
    assert event["inputs"][0]["facets"]["interlock_citation"]["erased"] is True
    assert (await http.get("/api/v1/lineage?answer=" + "0" * 32)).status_code == 404
    assert (await http.get("/api/v1/lineage")).status_code == 400


async def test_lineage_that_cannot_be_delivered_holds_nothing_up(house, monkeypatch):
    app, _ = house
    sink = OpenLineageSink(ObserveSettings(openlineage_url="http://127.0.0.1:9/in"))
    monkeypatch.setattr(app.parts.observe, "lineage", sink)
    await ingest(app)
    assert len(await app.parts.knowledge.documents(app.owner())) == 2


@pytest.mark.parametrize("house", ["files"], indirect=True)
async def test_nothing_of_what_was_erased_is_left_in_the_files(house):
    app, http = house
    await ingest(app)
    # An older version, kept words, and an answer that names the document are there too.
    path = app.workspace.root / "documents" / "ann.md"
    path.write_text(ANN.replace("parrot", "macaw"))
    await ingest(app)
    await http.post("/api/v1/collections/docs/search", json={"query": "who has a parrot or a macaw?"})
    body = {"model": "app/helper", "messages": [{"role": "user", "content": "who has a macaw?"}]}
    await http.post("/v1/chat/completions", json=body)
    path.unlink()
    words = (b"48,211", b"macaw", b"parrot", b"ann@example.com", b"ann.md")
    assert set(_on_disk(app, words)) == set(words)
    made = (await http.post("/api/v1/erasures", json={"kind": "subject", "value": "ann@example.com"})).json()
    assert made["content"]["complete"] is True
    assert not [line for line in made["content"]["remains"] if "bytes" in line]
    assert _on_disk(app, words) == {}


def _on_disk(app, words):
    """Files of the data folder by the word that they still hold."""
    found = {}
    for path in app.workspace.data.rglob("*"):
        # A database's own files come and go while it is open.
        with suppress(FileNotFoundError, IsADirectoryError):
            content = path.read_bytes()
            for word in words:
                if word in content:
                    found.setdefault(word, []).append(path.name)
    return found
