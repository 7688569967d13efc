"""Recordings become documents: what is said in them is found, quoted, and tells when it was said."""

from __future__ import annotations

import email
import io
import json
import math
import struct
import threading
import wave
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from interlock.app import open_app
from interlock.core.errors import InvalidInput
from interlock.flows.ingest import KIND, enqueue_ingest, run_ingest
from interlock.knowledge.embedders import embedders
from interlock.testing.embedders import HashEmbedder
from interlock.testing.workspaces import write_workspace

SAID = (
    (0.0, 3.5, "Welcome to the weekly meeting of the heron team."),
    (3.5, 9.0, "The new gateway ships on the third of March."),
    (14.0, 20.0, "After a pause, we turn to the budget."),
    (63.0, 70.0, "The sensors cost eleven pounds each from the second minute on."),
)


class Model(BaseHTTPRequestHandler):
    """OpenAI's endpoint, strict about what it takes."""

    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        form = email.message_from_bytes(head + body)
        fields, name, data = {}, "", b""
        for part in form.get_payload():
            key = part.get_param("name", header="content-disposition")
            if part.get_filename() is not None:
                name, data = part.get_filename(), part.get_payload(decode=True)
            else:
                fields[key] = part.get_payload(decode=True).decode()
        server.seen.append((fields, name))
        if self.path != "/v1/audio/transcriptions" or self.headers["authorization"] != "Bearer secret":
            return self.answer(401, {"error": {"message": "no", "code": "bad_key"}})
        if server.is_away:
            return self.answer(503, {"error": {"message": "overloaded"}})
        if fields["model"] != "whisper-1" or fields["response_format"] not in {"json", "verbose_json"}:
            return self.answer(400, {"error": {"message": "model"}})
        try:
            with wave.open(io.BytesIO(data)) as recording:
                seconds = recording.getnframes() / recording.getframerate()
        except (wave.Error, EOFError):
            return self.answer(400, {"error": {"message": f"cannot decode {name}", "code": "invalid_file"}})
        text = " ".join(words for _, _, words in SAID)
        if fields["response_format"] == "json":
            return self.answer(200, {"text": text})
        rows = [{"id": n, "start": a, "end": b, "text": f" {words}"} for n, (a, b, words) in enumerate(SAID)]
        return self.answer(200, {"text": text, "language": "english", "duration": seconds, "segments": rows})

    def answer(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def model(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    server.seen, server.is_away = [], False
    monkeypatch.setenv("FAKE_KEY", "secret")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def recording(seconds=1):
    """A tone, as a WAV file."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(8000)
        tone = (int(9000 * math.sin(at / 5)) for at in range(8000 * seconds))
        made.writeframes(b"".join(struct.pack("<h", value) for value in tone))
    return stream.getvalue()


@pytest.fixture
def opened(tmp_path, model, monkeypatch):
    class Plugin:
        @staticmethod
        def open(_, *, threads):
            return HashEmbedder()

    monkeypatch.setitem(embedders._loaded, "hashed", Plugin)

    @asynccontextmanager
    async def start(transcription='{model: "voice/whisper-1"}', more=""):
        url = f"http://127.0.0.1:{model.server_port}/v1"
        settings = {
            "knowledge": {"embedder": "hashed", "reader": "none"},
            "gateway": {
                "detect": False,
                "providers": {"voice": {"kind": "openai", "base_url": url, "api_key_env": "FAKE_KEY"}},
            },
        }
        workspace = write_workspace(tmp_path / "w", settings=settings)
        (workspace / "documents").mkdir(exist_ok=True)
        (workspace / "knowledge").mkdir(exist_ok=True)
        (workspace / "knowledge" / "docs.yaml").write_text(
            "collection: docs\nsources: [{path: ../documents}]\n"
            'permissions: [{match: "**", readers: [public]}]\n'
            + (f"transcription: {transcription}\n" if transcription else "")
            + more
        )
        async with open_app(workspace) as app:
            yield app, workspace / "documents"

    return start


async def ingest(app):
    await enqueue_ingest(app.parts, app.owner(), "docs")
    job = await app.parts.jobs.claim("test", [KIND], lease_s=60)
    return await run_ingest(app.parts, app.owner(), job, app.source_spec("docs"))


async def found(app, query):
    return await app.parts.knowledge.search(app.owner(), query, collection="docs", limit=3)


async def test_what_is_said_is_found_with_the_minute_and_is_not_asked_for_twice(opened, model):
    async with opened() as (app, documents):
        (documents / "meeting.wav").write_bytes(recording())
        (documents / "notes.md").write_text("# Notes\n\nWritten by hand.")
        report = await ingest(app)
        assert (report.added, report.failed) == (2, ())
        best = (await found(app, "what do the sensors cost"))[0]
        assert (best.source, best.heading.endswith("1:03")) == ("meeting.wav", True)
        assert best.text.startswith("The sensors cost eleven pounds")
        text = (await app.parts.knowledge.document_text(app.owner(), best.document_id)).text
        # A pause of more than two seconds parts paragraphs.
        assert "third of March.\n\nAfter a pause" in text
        [info] = [i for i in await app.parts.knowledge.documents(app.owner()) if i.source == "meeting.wav"]
        assert info.media_type == "audio/*"
        assert info.metadata["duration"] == "0:01"
        assert (await ingest(app)).unchanged == 2
        assert len(model.seen) == 1
        fields, name = model.seen[0]
        assert fields == {
            "model": "whisper-1",
            "response_format": "verbose_json",
            "timestamp_granularities[]": "segment",
        }
        assert name == "recording.wav"  # the name of a file may say what it is about
        [row] = await app.parts.cost.ledger(app.owner())
        assert row.model == "whisper-1"


async def test_a_model_without_times_gives_text_and_the_language_is_told(opened, model):
    async with opened('{model: "voice/whisper-1", timestamps: false, language: de}') as (app, documents):
        (documents / "meeting.wav").write_bytes(recording())
        await ingest(app)
        assert "third of March" in (await found(app, "when does the gateway ship"))[0].text
        assert model.seen[0][0] == {"model": "whisper-1", "response_format": "json", "language": "de"}


async def test_a_model_that_is_away_fails_recordings_only_and_the_next_run_tries_again(opened, model):
    model.is_away = True
    async with opened() as (app, documents):
        for name in ("a.wav", "b.wav"):
            (documents / name).write_bytes(recording())
        (documents / "notes.md").write_text("# Notes\n\nWritten by hand.")
        report = await ingest(app)
        assert report.added == 1
        assert {(f.source, f.code) for f in report.failed} == {
            ("a.wav", "transcription_failed"),
            ("b.wav", "transcription_failed"),
        }
        assert len(model.seen) == 1  # the second is not tried in vain
        model.is_away = False
        report = await ingest(app)
        assert report.failed == ()
        assert {p.source for p in await found(app, "sensors cost")} >= {"a.wav"}


async def test_what_the_model_refuses_and_what_is_too_large_are_each_one_line(opened, model):
    async with opened('{model: "voice/whisper-1", max_bytes: 20000}') as (app, documents):
        (documents / "broken.mp3").write_bytes(b"\xff\xfb" + b"no sound" * 20)
        (documents / "long.wav").write_bytes(recording(4))
        (documents / "good.wav").write_bytes(recording())
        report = await ingest(app)
        assert report.added == 1
        told = {f.source: f for f in report.failed}
        assert told["broken.mp3"].code == "transcription_refused"
        assert "cannot decode" not in told["broken.mp3"].message
        assert told["long.wav"].code == "request_too_large"
        assert len(model.seen) == 2
        await ingest(app)
        assert len(model.seen) == 2  # refused once is enough, while it is the same file


async def test_without_a_model_recordings_are_left_out_as_other_files_are(opened, model):
    async with opened(transcription="") as (app, documents):
        (documents / "meeting.wav").write_bytes(recording())
        (documents / "notes.md").write_text("# Notes\n\nWritten by hand.")
        report = await ingest(app)
        assert (report.added, report.skipped, report.skipped_suffixes) == (1, 1, {".wav": 1})
        assert model.seen == []


async def test_a_mistake_in_the_file_names_its_field(opened):
    async with opened('{model: "voice/whisper-1", language: german}') as (app, _):
        with pytest.raises(InvalidInput) as refused:
            app.source_spec("docs")
        assert refused.value.param == "transcription.language"
