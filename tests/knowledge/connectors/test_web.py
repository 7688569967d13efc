from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass, field

import pytest
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.knowledge.connectors.servers import HttpWorld, serving

from interlock.core.errors import InterlockError, InvalidInput, Unavailable
from interlock.knowledge.connectors._addresses import is_outside
from interlock.testing.connectors import (
    TENANT,
    ConnectorConformance,
    IncrementalConformance,
    ThrottleConformance,
    desk,
)

__all__ = ["desk"]


@dataclass
class Site(HttpWorld):
    token: str = ""
    pages: dict = field(default_factory=dict)
    robots: tuple = (404, "")
    sent: int = 0
    redirects: dict = field(default_factory=dict)
    broken: set = field(default_factory=set)
    extra: list = field(default_factory=list)
    refused: dict = field(default_factory=dict)
    hidden: set = field(default_factory=set)
    """Pages that the sitemap does not name."""

    def routes(self):
        return [
            Route("/robots.txt", self._robots),
            Route("/sitemap.xml", self._index),
            Route("/pages.xml.gz", self._sitemap),
            Route("/{name:path}", self._page),
        ]

    async def _robots(self, request):
        return PlainTextResponse(self.robots[1], self.robots[0])

    async def _index(self, request):
        return Response(
            f'<?xml version="1.0"?><sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
            f"<sitemap><loc>{self.url}/pages.xml.gz</loc></sitemap></sitemapindex>",
            media_type="application/xml",
        )

    async def _sitemap(self, request):
        listed = [name for name in {**self.pages, **self.redirects} if name not in self.hidden]
        names = [f"{self.url}/{name}" for name in listed] + self.extra
        text = "".join(f"<url><loc>{name}</loc></url>" for name in names)
        return Response(
            gzip.compress(f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{text}</urlset>'.encode()),
            media_type="application/gzip",
        )

    async def _page(self, request):
        name = request.path_params["name"]
        if name in self.refused:
            return PlainTextResponse("no", self.refused[name])
        if name in self.redirects:
            return RedirectResponse(self.redirects[name])
        if name in self.broken:
            return PlainTextResponse("no", 500)
        if name not in self.pages:
            return PlainTextResponse("no", 404)
        text = self.pages[name]
        tag = '"' + hashlib.sha256(text.encode()).hexdigest()[:16] + '"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag})
        self.sent += 1
        html = f"<html><head><title>{name}</title></head><body><main><h1>{name}</h1><p>{text}</p></main></body></html>"
        return Response(html, media_type="text/html", headers={"etag": tag})

    async def put(self, name, text):
        self.pages[name] = text

    async def remove(self, name):
        del self.pages[name]

    def path(self, name):
        return name

    def fetches(self):
        return self.sent


@pytest.fixture
async def world():
    site = Site()
    async with serving(site.app()) as url:
        site.url = url
        site.source = {"kind": "web", "url": url, "allow_private": True}
        yield site


class TestWeb(ConnectorConformance, IncrementalConformance, ThrottleConformance):
    async def test_robots_close_pages_and_a_site_without_an_answer_about_them_is_away(self, desk, world):
        await world.put("open/n0", "The heron stands by the river.")
        await world.put("closed/n1", "The otter swims at night.")
        world.robots = (200, "User-agent: *\nDisallow: /closed/\n")
        await desk.ingest()
        assert set(await desk.documents()) == {"open/n0"}
        assert "GET /closed/n1" not in world.requests
        world.robots = (500, "")
        with pytest.raises(InterlockError):
            await desk.ingest()
        assert set(await desk.documents()) == {"open/n0"}
        world.robots = (200, "User-agent: *\nDisallow: /closed/\n")
        await desk.ingest(obey_robots=False)
        assert set(await desk.documents()) == {"open/n0", "closed/n1"}

    async def test_pages_of_other_hosts_are_left_out_and_redirects_to_them_fail(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        world.extra = ["http://169.254.169.254/latest/meta-data/", "http://localhost:1/x", "file:///etc/passwd"]
        world.redirects = {
            "away": "http://169.254.169.254/latest/",
            "local": "http://localhost:1/",
            "files": "file:///etc/passwd",
            "here": f"{world.url}/n0",
        }
        report = await desk.ingest()
        assert report.added == 1, "what redirects to a page is that page"
        assert {(f.source, f.code) for f in report.failed} == {(n, "left_the_host") for n in ("away", "files", "local")}
        assert {path for path, info in (await desk.documents()).items() if info.text_digest} == {"n0"}

    async def test_an_address_of_a_private_network_is_refused_unless_allowed(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        for url in (world.url, world.url.replace("127.0.0.1", "localhost")):
            with pytest.raises(InvalidInput) as caught:
                await desk.ingest(allow_private=False, url=url)
            assert caught.value.code == "private_address"
        assert world.requests == []

    @pytest.mark.parametrize(
        "host",
        [
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "localhost.",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
        ],
    )
    async def test_no_way_of_writing_an_inner_address_gets_a_request_through(self, desk, world, host):
        await world.put("n0", "The heron stands by the river.")
        port = world.url.rpartition(":")[2]
        with pytest.raises(InterlockError) as caught:
            await desk.ingest(allow_private=False, url=f"http://{host}:{port}")
        assert caught.value.code in {"private_address", "source_unreachable", "no_address"}
        assert world.requests == []

    @pytest.mark.parametrize("address", ["10.0.0.7", "169.254.169.254", "::ffff:169.254.169.254", "fd00::7"])
    async def test_a_public_name_with_a_private_address_is_refused(self, desk, world, address, monkeypatch):
        async def resolved(host, port, **_):
            return [(2, 1, 6, "", ("93.184.215.14", port)), (2, 1, 6, "", (address, port))]

        monkeypatch.setattr("anyio.getaddrinfo", resolved)
        with pytest.raises(InvalidInput) as caught:
            await desk.ingest(allow_private=False, url="http://docs.example.com")
        assert caught.value.code == "private_address"
        assert address not in caught.value.message

    @pytest.mark.parametrize("url", ["http://ada:secret@docs.example.com", "http://ada@docs.example.com/x"])
    async def test_credentials_in_an_address_are_refused_and_not_repeated(self, desk, world, url):
        with pytest.raises(InvalidInput) as caught:
            await desk.ingest(url=url)
        assert "secret" not in str(caught.value)

    async def test_one_broken_page_is_one_line_and_a_page_that_is_gone_is_removed_at_once(self, desk, world):
        for name in ("n0", "n1", "n2"):
            await world.put(name, f"The heron {name} stands by the river.")
        await desk.ingest()
        world.broken = {"n1"}
        world.redirects = {"n2": "/nowhere"}
        report = await desk.ingest()
        assert [f.code for f in report.failed] == ["page_failed"]
        assert report.deleted == 1
        assert set(await desk.documents()) == {"n0", "n1"}
        assert await desk.found("heron n1") >= {"n1"}

    async def test_robots_that_are_refused_close_nothing(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        for status in (401, 403):
            world.robots = (status, "no")
            report = await desk.ingest(name=f"it{status}")
            assert (report.added + report.unchanged, report.deleted) == (1, 0)

    async def test_pages_that_are_refused_or_lead_away_stay_and_say_why(self, desk, world):
        for name in ("n0", "n1", "n2"):
            await world.put(name, f"The heron {name} stands by the river.")
        await desk.ingest()
        world.refused = {"n0": 401, "n1": 403}
        world.redirects = {"n2": "http://login.example.com/"}
        for _ in range(2):
            report = await desk.ingest()
            codes = {(f.source, f.code) for f in report.failed}
            assert codes == {("n0", "page_refused"), ("n1", "page_refused"), ("n2", "left_the_host")}
            assert report.deleted == 0
        assert await desk.found("heron") == {"n0", "n1", "n2"}
        full_at = (await desk.state()).full_at
        world.refused, world.redirects = {}, {}
        report = await desk.ingest()
        assert (report.failed, report.deleted) == ((), 0)
        assert {info.state for info in (await desk.documents()).values()} == {"ok"}
        assert (await desk.state()).full_at == full_at, "no page was asked for twice because of those"

    async def test_a_sitemap_that_is_empty_empties_nothing(self, desk, world):
        for name in ("n0", "n1"):
            await world.put(name, f"The heron {name} stands by the river.")
        await desk.ingest()
        pages, world.pages = world.pages, {}
        for full_every in ("7d", "1s"):
            with pytest.raises(Unavailable) as caught:
                await desk.ingest(full_every=full_every)
            assert caught.value.code == "too_many_removals"
        assert await desk.found("heron") == {"n0", "n1"}
        world.pages = pages
        assert (await desk.ingest()).failed == ()

    async def test_one_bad_address_does_not_end_the_source(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        world.redirects = {"turning": "/turning"}
        world.extra = [world.url.rpartition(":")[0] + ":99999999/x", "http://[::1/", f"{world.url}/{'y' * 70_000}"]
        report = await desk.ingest()
        assert report.added == 1
        assert sorted(f.code for f in report.failed) == ["no_address", "no_address", "too_many_redirects"]

    async def test_the_path_is_that_of_what_is_fetched(self, desk, world):
        await world.put("private/doc", "The secret is under the stone.")
        await world.put("pub/doc", "The heron stands by the river.")
        world.redirects = {"pub/moved": "/private/other", "pub/dots": "/pub/%2e%2e/private/more"}
        await world.put("private/other", "The otter swims at night.")
        await world.put("private/more", "The kingfisher dives.")
        world.hidden = {"private/doc", "private/other", "private/more"}
        world.extra = [f"{world.url}/pub/../private/doc", f"{world.url}/pub/%2E%2e/private/doc"]
        report = await desk.ingest()
        assert report.failed == ()
        assert set(await desk.documents()) == {"pub/doc", "private/doc", "private/other", "private/more"}

    async def test_robots_are_asked_for_every_hop(self, desk, world):
        await world.put("closed/doc", "The otter swims at night.")
        await world.put("open/doc", "The heron stands by the river.")
        world.redirects = {"open/in": "/closed/doc"}
        world.extra = [f"{world.url}/open/../closed/doc"]
        world.robots = (200, "User-agent: *\nDisallow: /closed/\n")
        report = await desk.ingest()
        assert [(f.source, f.code) for f in report.failed] == [("open/in", "closed_by_robots")]
        assert {path for path, info in (await desk.documents()).items() if info.text_digest} == {"open/doc"}
        assert "GET /closed/doc" not in world.requests

    async def test_addresses_that_look_alike_are_documents_of_their_own(self, desk, world):
        await world.put("x", "The heron stands by the river.")
        await desk.ingest()
        first = (await desk.documents())["x"].id
        await world.put("x/", "The otter swims at night.")
        for _ in range(2):
            await desk.ingest()
            documents = await desk.documents()
            assert len(documents) == 2
            assert documents["x"].id == first
            assert await desk.found("heron") == {"x"}
            assert len(await desk.found("otter")) == 1

    async def test_a_cursor_of_an_older_version_goes_on(self, desk, world):
        for name in ("n0", "n1", "n2"):
            await world.put(name, f"The heron {name} stands by the river.")
        await desk.ingest()
        old = {name: ["", ""] for name in ("n0", "n1", "n2")}
        await desk.states.note(TENANT, "docs", "it", cursor=json.dumps(old))
        await world.remove("n1")
        report = await desk.ingest()
        assert (report.unchanged, report.deleted) == (2, 1)

    async def test_too_many_pages_and_bombs_are_refused(self, desk, world):
        for number in range(4):
            await world.put(f"n{number}", "The heron.")
        with pytest.raises(InvalidInput, match="more than 3"):
            await desk.ingest(max_pages=3)
        world.pages["bomb.xml"] = "x"
        with pytest.raises(InterlockError):
            await desk.ingest(sitemap=f"{world.url}/bomb.xml")
        assert await desk.documents() == {}


@pytest.mark.parametrize(
    ("address", "outside"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("2002:5db8:d80e::", False),
        ("::127.0.0.1", False),
        ("::93.184.215.14", False),
        ("::ffff:0:127.0.0.1", False),
        ("64:ff9b:1::7f00:1", False),
        ("fec0::1", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("2606:4700::5efe:127.0.0.1", False),
        ("2606:4700::200:5efe:10.0.0.1", False),
        ("2606:4700::5efe:93.184.215.14", True),
        ("5f00::1", False),
        ("3fff::1", False),
        ("2001:db8::1", False),
        ("no address", False),
    ],
)
def test_inner_addresses_are_told_however_they_are_written(address, outside):
    assert is_outside(address) is outside
