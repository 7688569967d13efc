from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.knowledge.connectors.servers import HttpWorld, serving

from interlock.core.errors import InvalidInput
from interlock.testing.connectors import (
    SECRET,
    AttachmentConformance,
    ConnectorConformance,
    IncrementalConformance,
    ThrottleConformance,
    TokenConformance,
    World,
    caller,
    desk,
)

__all__ = ["desk"]

FIRST = datetime(2026, 11, 1, 10, tzinfo=UTC)


@dataclass
class Slack(HttpWorld):
    """The Web API: everything but 429 with 200, ``ok: false`` in the body, cursors in ``response_metadata``.

    A document of the suite is the one message of a day.
    """

    messages: dict = field(default_factory=dict)
    replies: dict = field(default_factory=dict)
    circles: dict = field(default_factory=dict)

    def routes(self):
        return [
            Route("/auth.test", self._test, methods=["POST"]),
            Route("/users.list", self._users),
            Route("/conversations.list", self._channels),
            Route("/conversations.history", self._history),
            Route("/conversations.replies", self._replies),
            Route("/files-pri/{name}", self._file),
        ]

    def _refusal(self, request):
        answer = super()._refusal(request)
        if answer is not None and answer.status_code == 401:
            return JSONResponse({"ok": False, "error": "token_expired"})
        return answer

    async def _test(self, request):
        return JSONResponse({"ok": True, "team": "Birds"})

    async def _users(self, request):
        return JSONResponse({"ok": True, "members": [{"id": "U1", "profile": {"display_name": "Ada"}}]})

    def _names(self):
        return sorted({self._channel(name) for name in self.messages}) or ["birds"]

    async def _channels(self, request):
        found = [{"id": f"C-{name}", "name": name, "is_member": True} for name in self._names()]
        part, following = self.page(found, int(request.query_params.get("cursor") or 0), 3)
        found = {"ok": True, "channels": [*part, {"id": "C9", "name": "elsewhere", "is_member": False}]}
        return JSONResponse({**found, "response_metadata": {"next_cursor": str(following or "")}})

    async def _history(self, request):
        query = request.query_params
        if query["channel"] == "C9":
            return JSONResponse({"ok": False, "error": "not_in_channel"})
        mine = [one for name, one in self.messages.items() if f"C-{self._channel(name)}" == query["channel"]]
        found = sorted(
            (one for one in mine if float(one["ts"]) >= float(query["oldest"])), key=lambda o: -float(o["ts"])
        )
        part, following = self.page(found, int(query.get("cursor") or 0), 3)
        return JSONResponse({"ok": True, "messages": part, "response_metadata": {"next_cursor": str(following or "")}})

    async def _replies(self, request):
        found = self.replies[request.query_params["ts"]]
        return JSONResponse({"ok": True, "messages": found, "response_metadata": {}})

    async def _file(self, request):
        return Response(b"A walrus was seen from the pier.")

    def _at(self, name):
        return FIRST + timedelta(days=int(name.removeprefix("n")))

    def _channel(self, name):
        return self.circles.get(name, "birds")

    async def put(self, name, text):
        at = self._at(name)
        self.clock = max(self.clock + timedelta(minutes=15), at + timedelta(minutes=1))
        self.messages[name] = {"type": "message", "user": "U1", "text": text, "ts": f"{at.timestamp():.6f}"}

    async def remove(self, name):
        del self.messages[name]

    async def share(self, name, circle):
        # A message does not move; the suite's circles are channels of another name for the same test.
        self.circles[name] = circle

    async def attach(self, name, file, data):
        one = {"id": "F1", "name": file, "size": len(data), "url_private_download": f"{self.url}/files-pri/{file}"}
        self.messages[name]["files"] = [one]
        return f"birds/{self._at(name):%Y-%m-%d}/F1-{file}"

    def path(self, name):
        return f"{self._channel(name)}/{self._at(name):%Y-%m-%d}.md"


@pytest.fixture
async def world(request, tmp_path):
    if request.cls is TestExport:
        (tmp_path / "world").mkdir()
        yield Export({"kind": "slack", "export": "world/export.zip"}, {}, tmp_path / "world" / "export.zip")
        return
    world = Slack()
    async with serving(world.app()) as url:
        world.url = url
        world.environ = {"TOKEN": SECRET}
        world.source = {"kind": "slack", "url": url, "files_url": url, "token_env": "TOKEN", "allow_private": True}
        world.source["look_back"] = "1d"
        yield world


class TestSlack(
    ConnectorConformance, IncrementalConformance, AttachmentConformance, ThrottleConformance, TokenConformance
):
    async def test_names_marks_and_threads(self, desk, world):
        await world.put("n0", "<@U1> saw &lt;one&gt; at <https://birds.example|the site>")
        ts = world.messages["n0"]["ts"]
        world.messages["n0"]["reply_count"] = 1
        late = f"{float(ts) + 300_000:.6f}"
        world.replies[ts] = [world.messages["n0"], {"user": "U1", "text": "a pelican, days later", "ts": late}]
        await desk.ingest()
        (info,) = (await desk.documents()).values()
        text = (await desk.knowledge.document_text(caller(), info.id)).text
        assert "@Ada saw <one> at the site (https://birds.example)" in text
        assert "a pelican, days later" in text

    async def test_messages_of_blocks_and_attachments_are_read(self, desk, world):
        section = {"type": "section", "text": {"type": "mrkdwn", "text": "Deploy of *heron* by <@U1>"}}
        context = {"type": "context", "elements": [{"type": "plain_text", "text": "List<Otter> grew"}]}
        inner = [{"type": "text", "text": "a "}, {"type": "link", "url": "https://birds.example", "text": "pelican"}]
        rich = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": inner}]}
        await world.put("n0", "notification only")
        world.messages["n0"]["blocks"] = [section, context]
        await world.put("n1", "")
        world.messages["n1"] |= {
            "blocks": [rich],
            "attachments": [{"title": "Alarm", "fields": [{"title": "Host", "value": "walrus-7"}], "fallback": "x"}],
        }
        await desk.ingest()
        texts = [
            (await desk.knowledge.document_text(caller(), info.id)).text for info in (await desk.documents()).values()
        ]
        first, second = sorted(texts, key=lambda text: "walrus" in text)
        assert "Deploy of *heron* by @Ada" in first or "Deploy of heron by @Ada" in first
        assert "List<Otter> grew" in first
        assert "notification only" not in first
        assert "a pelican" in second
        assert "Host: walrus-7" in second

    async def test_files_of_messages_that_are_gone_go_with_them(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        await desk.ingest()
        await world.put("n1", "The otter swims at night.")
        file = await world.attach("n1", "pier.txt", b"unused")
        world.messages["n9"] = {**world.messages["n1"], "text": "Said the same day.", "files": []}
        await desk.ingest()
        assert file in await desk.documents()
        del world.messages["n1"]
        full_at = (await desk.state()).full_at
        assert (await desk.ingest()).deleted == 1
        assert (await desk.state()).full_at == full_at
        assert file not in await desk.documents()
        assert world.path("n1") in await desk.documents()

    async def test_a_day_without_messages_is_gone_by_the_cursor_within_the_look_back(self, desk, world):
        await self.fill(world)
        await desk.ingest()
        full_at = (await desk.state()).full_at
        await world.remove("n1")
        assert (await desk.ingest()).deleted == 1
        assert (await desk.state()).full_at == full_at


class TestSlackReaders:
    async def test_a_channel_is_read_by_whom_the_map_names_and_others_by_nobody(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        await world.put("n1", "The otter swims at night.")
        world.circles = {"n0": "staff", "n1": "secret"}
        maps = {"readers_from": "source", "readers_map": {"channel:staff": ["group:staff"]}}
        await desk.ingest(**maps)
        assert await desk.found("heron", "staff") == {world.path("n0")}
        assert await desk.found("heron") == set()
        assert await desk.found("otter", "staff") == set()


@dataclass
class Export(World):
    file: object = None
    days: dict = field(default_factory=dict)

    def save(self):
        with zipfile.ZipFile(self.file, "w") as packed:
            packed.writestr("users.json", json.dumps([{"id": "U1", "real_name": "Ada"}]))
            packed.writestr("channels.json", json.dumps([{"id": "C1", "name": "birds"}]))
            for name, text in self.days.items():
                message = {"type": "message", "user": "U1", "text": text, "ts": "1793520000.0001"}
                packed.writestr(self.path(name).replace(".md", ".json"), json.dumps([message]))

    async def put(self, name, text):
        self.days[name] = text
        self.save()

    async def remove(self, name):
        del self.days[name]
        self.save()

    def path(self, name):
        return f"birds/{FIRST + timedelta(days=int(name.removeprefix('n'))):%Y-%m-%d}.md"

    async def go_away(self):
        self.file.unlink()


class TestExport(ConnectorConformance):
    async def test_a_broken_export_is_said_and_deletes_nothing(self, desk, world):
        await self.fill(world)
        await desk.ingest()
        data = world.file.read_bytes()
        world.file.write_bytes(data[: len(data) // 2])
        with pytest.raises(InvalidInput) as caught:
            await desk.ingest()
        assert caught.value.param == "sources.export"
        assert len(await desk.documents()) == 3

    async def test_an_unpacked_export_is_read_and_no_link_leads_out_of_it(self, desk, world, tmp_path):
        await self.fill(world)
        folder = tmp_path / "world" / "unpacked"
        with zipfile.ZipFile(world.file) as packed:
            packed.extractall(folder)
        assert (await desk.ingest(export="world/unpacked")).added == 3
        day = folder / world.path("n1").replace(".md", ".json")
        outside = tmp_path / "outside.json"
        outside.write_text(json.dumps([{"text": "The secret is under the stone.", "ts": "1793520000.0001"}]))
        day.unlink()
        day.symlink_to(outside)
        with pytest.raises(InvalidInput) as caught:
            await desk.ingest(export="world/unpacked")
        assert caught.value.code == "link_outside_source"
        assert await desk.found("secret stone") == set()
        assert len(await desk.documents()) == 3
