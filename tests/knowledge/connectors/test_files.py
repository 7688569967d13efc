"""Mail and OpenAPI descriptions."""

from __future__ import annotations

import json
import mailbox
import shutil
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

import pytest
import yaml

from interlock.core.errors import InvalidInput
from interlock.testing.connectors import (
    AttachmentConformance,
    ConnectorConformance,
    ReadersConformance,
    World,
    desk,
)

__all__ = ["desk"]


def message(name, text, to="staff@example.org"):
    mail = EmailMessage()
    mail["Subject"] = f"About {name}"
    mail["From"] = "Ada <ada@example.org>"
    mail["To"] = to
    mail["Date"] = "Sun, 22 Nov 2026 10:00:00 +0000"
    mail["Message-ID"] = f"<{name}@example.org>"
    mail.set_content(text)
    return mail


@dataclass
class Mailbox(World):
    root: Path = Path()
    mails: dict = field(default_factory=dict)

    def save(self):
        path = self.root / "all.mbox"
        path.unlink(missing_ok=True)
        box = mailbox.mbox(path)
        for mail in self.mails.values():
            box.add(mail)
        box.close()

    async def put(self, name, text):
        self.mails[name] = message(name, text)
        self.save()

    async def remove(self, name):
        del self.mails[name]
        self.save()

    async def share(self, name, circle):
        del self.mails[name]["To"]
        self.mails[name]["To"] = f"{circle}@example.org"
        # The people of a message are a part of it: to change them is to send another one.
        self.save()

    async def attach(self, name, file, data):
        self.mails[name].add_attachment(data, maintype="text", subtype="plain", filename=file)
        self.save()
        return self.path(name).removesuffix(".md") + f"/0-{file}"

    def path(self, name):
        import hashlib

        digest = hashlib.sha256(f"<{name}@example.org>".encode()).hexdigest()
        return f"all.mbox/{digest[:16]}.md"

    async def go_away(self):
        shutil.rmtree(self.root)


@pytest.fixture
async def world(request, tmp_path):
    root = tmp_path / "world"
    root.mkdir()
    if request.cls is TestOpenApi:
        return Description({"kind": "openapi", "path": "world/api.yaml"}, {}, root)
    source = {"kind": "mbox", "path": "world"}
    if request.cls is TestMailReaders:
        source |= {"readers_from": "source", "readers_map": {"staff@example.org": ["group:staff"]}}
    return Mailbox(source, {}, root)


class TestMail(ConnectorConformance, AttachmentConformance):
    async def test_a_line_that_begins_like_a_message_is_none_and_facts_come_along(self, desk, world):
        await world.put("n0", "The heron said List<String>:\nFrom here it is far.\n\nFrom the river came the otter.\n")
        await desk.ingest()
        (info,) = (await desk.documents()).values()
        assert info.title == "About n0"
        assert info.metadata["from"] == "Ada <ada@example.org>"
        assert info.metadata["date"] == "2026-11-22T10:00:00+00:00"
        text = await desk.knowledge.document_text(_public(), info.id)
        assert "From the river came the otter." in text.text
        assert "List<String>" in text.text

    async def test_single_messages_html_and_broken_ones(self, desk, world):
        mail = EmailMessage()
        mail["Subject"] = "In colour"
        mail["From"] = "Ada"
        mail.set_content("<h1>Greeting</h1><p>The egret is white.</p>", subtype="html")
        (world.root / "one.eml").write_bytes(mail.as_bytes().replace(b"From: Ada", b"From: broken <"))
        (world.root / "two.eml").write_bytes(b"\xff\xfe no message at all \x00")
        (world.root / "three.eml").write_bytes(b"Content-Type: text/plain; charset=nothing\n\nThe grebe dances.\n")
        report = await desk.ingest()
        assert report.added >= 2
        assert await desk.found("egret")
        assert await desk.found("grebe")


class TestMailReaders(ReadersConformance):
    pass


def _public():
    from interlock.testing.connectors import caller

    return caller()


@dataclass
class Description(World):
    root: Path = Path()
    paths: dict = field(default_factory=dict)

    def save(self):
        root = {"openapi": "3.1.0", "info": {"title": "Birds", "version": "1"}, "paths": self.paths}
        (self.root / "api.yaml").write_text(yaml.safe_dump(root))

    async def put(self, name, text):
        self.paths[f"/birds/{name}"] = {"get": {"summary": f"Get {name}", "description": text, "responses": {}}}
        self.save()

    async def remove(self, name):
        del self.paths[f"/birds/{name}"]
        self.save()

    def path(self, name):
        return f"birds/{name}/get.md"

    async def go_away(self):
        (self.root / "api.yaml").unlink()


class TestOpenApi(ConnectorConformance):
    @pytest.mark.timeout(60)
    async def test_schemas_that_hold_themselves_are_told_as_far_as_anybody_reads(self, desk, world):
        node = {"$ref": "#/components/schemas/Node"}
        nothing = {"$ref": "#/components/schemas/Nothing"}
        root = {
            "openapi": "3.1.0",
            "info": {"title": "Birds", "version": "2"},
            "components": {
                "schemas": {
                    "Node": {"type": "object", "properties": {f"wing{n}": node for n in range(200)}},
                    # Leads nowhere, by very many ways.
                    "Nothing": {"anyOf": [nothing] * 200},
                }
            },
            "paths": {
                f"/{name}": {
                    "post": {"summary": name, "requestBody": {"content": {"application/json": {"schema": of}}}}
                }
                for name, of in (("flock", node), ("void", nothing))
            },
        }
        (world.root / "api.yaml").write_text(json.dumps(root))
        assert (await desk.ingest()).added == 2
        (info,) = [each for name, each in (await desk.documents()).items() if "flock" in name]
        text = (await desk.knowledge.document_text(_public(), info.id)).text
        assert 150 < text.count("wing") <= 200

    async def test_the_body_of_the_older_specification_is_told_as_a_body(self, desk, world):
        bird = {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "wings": {"type": "integer"}},
        }
        given = {"in": "body", "name": "bird", "description": "What was seen", "schema": {"$ref": "#/definitions/Bird"}}
        operation = {"summary": "Report", "parameters": [{"in": "query", "name": "silent", "type": "boolean"}, given]}
        root = {
            "swagger": "2.0",
            "info": {"title": "Birds", "version": "1"},
            "definitions": {"Bird": bird},
            "paths": {"/birds": {"post": operation}},
        }
        (world.root / "api.yaml").write_text(json.dumps(root))
        await desk.ingest()
        (info,) = (await desk.documents()).values()
        text = (await desk.knowledge.document_text(_public(), info.id)).text
        before, _, body = text.partition("Request body")
        assert "silent (query, boolean)" in before
        assert "What was seen" not in before
        assert "What was seen" in body
        assert "name (string, required)" in body
        assert "wings (integer)" in body

    async def test_parameters_bodies_and_answers_can_be_found(self, desk, world):
        root = {
            "openapi": "3.1.0",
            "info": {"title": "Birds", "version": "2"},
            "components": {
                "schemas": {
                    "Bird": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string", "description": "How it is called"},
                            "parent": {"$ref": "#/components/schemas/Bird"},
                            "plumage": {"type": "string", "enum": ["white", "grey"]},
                        },
                    }
                },
                "parameters": {"Limit": {"name": "limit", "in": "query", "schema": {"type": "integer"}}},
            },
            "paths": {
                "/birds/{id}": {
                    "parameters": [{"name": "id", "in": "path", "required": True, "description": "Its ring number"}],
                    "put": {
                        "operationId": "putBird",
                        "parameters": [{"$ref": "#/components/parameters/Limit"}],
                        "requestBody": {
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Bird"}}}
                        },
                        "responses": {"204": {"description": "The bird was stored"}},
                    },
                }
            },
        }
        (world.root / "api.yaml").write_text(json.dumps(root))
        await desk.ingest()
        (info,) = (await desk.documents()).values()
        assert info.source == "birds/{id}/put.md".replace("{", "%7B").replace("}", "%7D")
        text = (await desk.knowledge.document_text(_public(), info.id)).text
        for words in ("PUT /birds/{id}", "Its ring number", "limit", "How it is called", "white, grey", "was stored"):
            assert words in text

    @pytest.mark.parametrize(
        "text",
        [
            "a: &a [x, x]\nopenapi: '3'\npaths: {a: [*a, *a]}",
            "- 1",
            "openapi: 3",
            "!!python/object/apply:os.system ['true']",
            "{" * 2000,
            "\x00",
        ],
    )
    async def test_what_is_no_description_is_said(self, desk, world, text):
        await world.put("n0", "The heron.")
        await desk.ingest()
        (world.root / "api.yaml").write_text(text)
        with pytest.raises(InvalidInput) as caught:
            await desk.ingest()
        assert caught.value.param == "sources.path"
        assert len(await desk.documents()) == 1
