from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.knowledge.connectors.servers import HttpWorld, serving

from interlock.core.errors import InterlockError
from interlock.testing.connectors import (
    SECRET,
    ConnectorConformance,
    IncrementalConformance,
    ThrottleConformance,
    TokenConformance,
    caller,
    desk,
)

__all__ = ["desk"]


@dataclass
class GitHub(HttpWorld):
    """The REST API of issues as docs.github.com describes it: since, sort, direction, Link headers, comments apart."""

    issues: dict = field(default_factory=dict)
    discussions: list = field(default_factory=list)
    comments: dict = field(default_factory=dict)
    more: dict = field(default_factory=dict)
    """Of a discussion or a comment, what its first page did not hold."""

    def routes(self):
        return [
            Route("/repos/ada/birds", self._repo),
            Route("/repos/ada/birds/issues", self._issues),
            Route("/repos/ada/birds/issues/{number:int}/comments", self._comments),
            Route("/graphql", self._graphql, methods=["POST"]),
        ]

    async def _repo(self, request):
        return JSONResponse({"full_name": "ada/birds"})

    async def _issues(self, request):
        query = request.query_params
        assert (query["state"], query["sort"], query["direction"]) == ("all", "created", "asc")
        found = [one for one in self.issues.values() if one["updated_at"] >= query.get("since", "")]
        found.sort(key=lambda one: one["number"])
        part, following = self.page(found, int(query.get("page", 1)) * 3 - 3, 3)
        headers = {}
        if following is not None:
            url = request.url.include_query_params(page=following // 3 + 1)
            headers["link"] = f'<{url}>; rel="next", <{url}>; rel="last"'
        return JSONResponse(part, headers=headers)

    async def _comments(self, request):
        found = self.comments.get(request.path_params["number"], [])
        return JSONResponse([{"user": {"login": "bob"}, "body": body} for body in found])

    async def _graphql(self, request):
        body = await request.json()
        asked = body["variables"]
        if "id" in asked:
            held, at = self.more[asked["id"]], int(asked["after"])
            name = "replies" if asked["id"].startswith("comment") else "comments"
            assert f"{name}(first: 100, after: $after)" in body["query"]
            page = {"nodes": [held[at]], "pageInfo": {"hasNextPage": at + 1 < len(held), "endCursor": str(at + 1)}}
            return JSONResponse({"data": {"node": {name: page}}})
        assert asked["owner"] == "ada"
        nodes = sorted(self.discussions, key=lambda one: one["updatedAt"], reverse=True)
        page = {"pageInfo": {"hasNextPage": False, "endCursor": None}, "nodes": nodes}
        return JSONResponse({"data": {"repository": {"discussions": page}}})

    def _number(self, name):
        return int(name.removeprefix("n")) + 1

    async def put(self, name, text):
        number = self._number(name)
        self.issues[number] = {
            "number": number,
            "title": f"Issue {name}",
            "body": text,
            "state": "open",
            "comments": len(self.comments.get(number, [])),
            "user": {"login": "ada"},
            "labels": [{"name": "bug"}],
            "html_url": f"https://github.example/ada/birds/issues/{number}",
            "updated_at": self.tick(),
        }

    async def remove(self, name):
        del self.issues[self._number(name)]

    def path(self, name):
        return f"issues/{self._number(name)}.md"


@pytest.fixture
async def world():
    world = GitHub()
    async with serving(world.app()) as url:
        world.url = url
        world.environ = {"TOKEN": SECRET}
        world.source = {"kind": "github", "url": url, "repo": "ada/birds", "token_env": "TOKEN", "allow_private": True}
        yield world


class TestGitHub(ConnectorConformance, IncrementalConformance, ThrottleConformance, TokenConformance):
    async def test_comments_pull_requests_and_discussions_are_told_apart(self, desk, world):
        world.comments[1] = ["The grebe was seen too."]
        await world.put("n0", "The heron stands by the river.")
        await world.put("n1", "A change to the river.")
        world.issues[2]["pull_request"] = {"url": "x"}
        world.discussions.append(
            {
                "number": 9,
                "title": "Where do egrets sleep?",
                "body": "In the reeds?",
                "url": "https://github.example/d/9",
                "updatedAt": world.tick(),
                "author": {"login": "eve"},
                "category": {"name": "Q&A"},
                "comments": {
                    "nodes": [{"body": "On islands.", "author": None, "replies": {"nodes": [{"body": "Or in trees."}]}}]
                },
            }
        )
        await desk.ingest(take=["issues", "pulls", "discussions"])
        assert set(await desk.documents()) == {"issues/1.md", "pulls/2.md", "discussions/9.md"}
        assert await desk.found("grebe") == {"issues/1.md"}
        assert await desk.found("trees") == {"discussions/9.md"}
        assert (await desk.documents())["issues/1.md"].metadata["labels"] == "bug"
        report = await desk.ingest(take=["pulls"])
        assert report.deleted == 2

    async def test_the_whole_of_a_long_discussion_is_read(self, desk, world):
        def said(text, **more):
            return {"body": text, "author": {"login": "bob"}, **more}

        def following(more):
            return {"hasNextPage": bool(more), "endCursor": "0" if more else None}

        world.more = {
            "discussion1": [said("An otter at noon.", id="comment2"), said("A walrus at dusk.", id="comment3")],
            "comment1": [said("A pelican replied late."), said("A heron replied last.")],
        }
        replies = {"nodes": [said("First reply.")], "pageInfo": following(True)}
        first = said("First comment.", id="comment1", replies=replies)
        comments = {"nodes": [first], "pageInfo": following(True)}
        one = {"id": "discussion1", "number": 9, "title": "Seen", "body": "Tell.", "updatedAt": world.tick()}
        world.discussions.append({**one, "comments": comments})
        await desk.ingest(take=["discussions"])
        (info,) = (await desk.documents()).values()
        text = (await desk.knowledge.document_text(caller(), info.id)).text
        told = ["First comment.", "First reply.", "pelican", "heron", "otter", "walrus"]
        assert [text.find(word) for word in told] == sorted(text.find(word) for word in told)
        assert "walrus" in text

    async def test_the_hours_calls_being_used_up_is_waited_for(self, desk, world):
        await world.put("n0", "The heron stands by the river.")
        original, spent = world._refusal, []

        def refusal(request):
            if len(spent) < 1:
                spent.append(1)
                headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}
                return JSONResponse({"message": "API rate limit exceeded"}, 403, headers)
            return original(request)

        world._refusal = refusal
        assert (await desk.ingest()).added == 1


class TestTokensOfAnAuthorisationServer:
    """`oauth`: short-lived tokens, taken when needed, again when refused, and by the newest refresh token."""

    @pytest.fixture
    async def oauth(self, world):
        asked = []

        async def endpoint(request):
            form = dict(parse_qsl((await request.body()).decode()))
            asked.append(form)
            if (form["client_id"], form["client_secret"]) != ("me", "client-" + SECRET):
                return JSONResponse({"error": "invalid_client"}, 401)
            if form["grant_type"] == "refresh_token":
                assert form["refresh_token"] == f"refresh-{len(asked)}"
            world.token = f"{SECRET}-{len(asked)}"
            answer = {"access_token": world.token, "expires_in": 3600, "refresh_token": f"refresh-{len(asked) + 1}"}
            return JSONResponse(answer)

        async with serving(Starlette(routes=[Route("/token", endpoint, methods=["POST"])])) as url:
            world.environ.clear()
            world.environ |= {"ID": "me", "SECRET": "client-" + SECRET, "REFRESH": "refresh-1"}
            del world.source["token_env"]
            world.source["oauth"] = {
                "token_url": f"{url}/token",
                "client_id_env": "ID",
                "client_secret_env": "SECRET",
                "refresh_token_env": "REFRESH",
            }
            yield asked

    async def test_a_token_that_is_refused_in_the_middle_of_a_run_is_taken_anew(self, desk, world, oauth):
        for number in range(7):
            await world.put(f"n{number}", f"The heron number{number}.")
        original = world._refusal

        def refusal(request):
            if len(world.requests) == 3:
                # As if its time were up.
                world.token = "expired"
            return original(request)

        world._refusal = refusal
        report = await desk.ingest()
        assert (report.added, report.failed) == (7, ())
        assert [form["grant_type"] for form in oauth] == ["refresh_token", "refresh_token"]

    async def test_a_client_that_is_refused_is_said_without_its_secret(self, desk, world, oauth):
        world.environ["SECRET"] = "wrong-" + SECRET
        with pytest.raises(InterlockError) as caught:
            await desk.ingest()
        assert caught.value.code == "source_refused"
        assert SECRET not in str(caught.value)

    async def test_without_a_refresh_token_the_client_itself_is_trusted(self, desk, world, oauth):
        del world.source["oauth"]["refresh_token_env"]
        await world.put("n0", "The heron stands by the river.")
        assert (await desk.ingest()).added == 1
        assert [form["grant_type"] for form in oauth] == ["client_credentials"]


async def test_a_server_that_is_not_there_is_said(desk, world):
    await world.put("n0", "The heron stands by the river.")
    await desk.ingest()
    with pytest.raises(InterlockError) as caught:
        await desk.ingest(url="http://127.0.0.1:1")
    assert caught.value.code == "source_unreachable"
    assert len(await desk.documents()) == 1
