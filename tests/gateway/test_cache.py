"""Kept answers: who is given them, who is not, and what a call of them costs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.clock import Deadline
from interlock.core.context import Context, EndUser, Principal
from interlock.core.errors import (
    DeadlineExceeded,
    InterlockError,
    LimitExceeded,
    Misconfigured,
    ProviderError,
    Unavailable,
)
from interlock.core.ids import KeyId, PrincipalId, ReleaseId, TenantId
from interlock.core.messages import (
    ChatRequest,
    Finish,
    ImagePart,
    Message,
    Native,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolChoice,
    ToolSpec,
    Usage,
    text_message,
)
from interlock.gateway.cache.calibration import Calibration
from interlock.gateway.cache.entries import Kept, joined, pack, replayed, unpack
from interlock.gateway.cache.keys import key_of
from interlock.gateway.cache.semantic import Semantic
from interlock.gateway.cache.service import AnswerCache
from interlock.gateway.cache.settings import CacheSpec
from interlock.gateway.cache.store import CacheStore
from interlock.gateway.cache.types import CacheScope, Purge
from interlock.gateway.service import Gateway, Served, collect
from interlock.gateway.settings import GatewaySettings, ProviderSettings
from interlock.gateway.types import RouteSpec
from interlock.stores.kv.memory import MemoryKv
from interlock.stores.kv.sql import SqlKv
from interlock.stores.sql import open_sql
from interlock.testing.embedders import HashEmbedder
from interlock.testing.providers import deps

ACME = TenantId("acme")


class Purse:
    """A meter that notes what was admitted and charged."""

    def __init__(self, limit=None):
        self.rows = []
        self.open = 0
        self.limit = limit

    def pressure(self):
        return 0.0

    async def admit(self, provider, model, estimate):
        if self.limit is not None and len(self.rows) + self.open >= self.limit:
            raise LimitExceeded("enough")
        self.open += 1
        return _Held(self, provider, model)


class _Held:
    def __init__(self, purse, provider, model):
        self.purse, self.name, self.is_open = purse, f"{provider}:{model}", True

    def charge(self, usage):
        assert self.is_open
        self.is_open = False
        self.purse.open -= 1
        self.purse.rows.append((self.name, usage.total_tokens))

    def drop(self):
        if self.is_open:
            self.is_open = False
            self.purse.open -= 1


class House:
    """A gateway with a cache, its clock, and a provider that counts its calls."""

    def __init__(self, script=None, kv=None, route=None, embedder=None, calibration=None, **cache):
        self.at = 1_000_000.0
        self.kv = kv or MemoryKv(clock=lambda: self.at)
        self.store = CacheStore(self.kv, clock=lambda: self.at)
        semantic = Semantic(self.store, embedder, calibration, clock=lambda: self.at)
        self.cache = AnswerCache(self.store, semantic)
        script = [script or {"reply": "you said {question}"}] if not isinstance(script, list) else script
        spec = RouteSpec(**{"targets": ["scripted"], "retries": 0, "cache": {"ttl_s": 60, **cache}, **(route or {})})
        settings = GatewaySettings(
            providers={
                "scripted": ProviderSettings(kind="scripted", script=script),
                "spare": ProviderSettings(kind="scripted", script=[{"reply": "spare"}]),
            },
            routes={"r": spec},
        )
        self.gateway = Gateway(settings, deps(), sleep=self._sleep, cache=self.cache)
        self.calls = 0
        provider = self.gateway.provider("scripted")
        inner, embed = provider.stream, provider.embed
        self.embedded = []

        def stream(*args):
            self.calls += 1
            return inner(*args)

        async def embedding(ctx, texts, model):
            self.embedded.append(list(texts))
            return await embed(ctx, texts, model)

        provider.stream, provider.embed = stream, embedding
        self.purse = Purse()

    async def _sleep(self, seconds):
        return None

    async def ask(self, text="hello", *, ctx=None, scope=None, meter=None, **changes):
        served = Served()
        request = ChatRequest("route/r", (text_message("user", text),), **changes)
        result = await collect(
            self.gateway.stream(ctx or who(), request, served=served, meter=meter or self.purse, scope=scope)
        )
        return result.message.text, served


def who(tenant="acme", key="k1", user=None, groups=(), **changes):
    ctx = Context(TenantId(tenant), Principal(PrincipalId("svc"), "service", key_id=KeyId(key)))
    if user:
        ctx = ctx.on_behalf_of(EndUser(user, frozenset(groups)))
    return replace(ctx, **changes)


async def test_an_equal_call_is_answered_without_a_provider_and_costs_nothing():
    house = House()
    assert (await house.ask())[1].cache == "miss"
    text, served = await house.ask()
    assert (text, served.cache, str(served.target), house.calls) == ("you said hello", "hit", "scripted", 1)
    assert served.usage == Usage(1, 3)
    assert house.purse.rows == [("scripted:scripted", 4), ("cache:scripted", 0)]
    assert served.decision.header() == "cache/scripted"


async def test_nothing_is_kept_unless_the_route_says_so():
    house = House(route={"cache": None})
    assert [(await house.ask())[1].cache for _ in range(2)] == ["", ""]
    assert house.calls == 2


async def test_a_kept_answer_lives_as_long_as_its_route_says():
    house = House(ttl_s=60)
    await house.ask()
    house.at += 59
    assert (await house.ask())[1].cache == "hit"
    house.at += 2
    assert (await house.ask())[1].cache == "miss"


async def test_a_caller_may_go_past_the_cache_or_renew_it():
    house = House([{"fail_times": 1, "reply": "old", "match": "x"}, {"reply": "answer"}])
    await house.ask()
    assert (await house.ask(ctx=who(cache="no-store")))[1].cache == "bypass"
    assert (await house.ask(ctx=who(cache="refresh")))[1].cache == "refresh"
    assert (house.calls, (await house.ask())[1].cache) == (3, "hit")


@pytest.mark.parametrize("rule", [{"fail_status": 503}, {"fail_status": 400}])
async def test_an_error_is_never_kept(rule):
    house = House({**rule, "fail_times": 1, "reply": "late"})
    with pytest.raises(ProviderError):
        await house.ask()
    assert (await house.ask())[0] == "late"
    assert house.calls == 2


async def test_an_answer_over_the_size_limit_or_beyond_the_routes_share_is_not_kept():
    house = House({"reply": "x" * 2000}, max_entry_bytes=1000)
    assert [(await house.ask())[1].cache for _ in range(2)] == ["miss", "miss"]
    house = House(max_bytes=1024)
    for number in range(20):
        await house.ask(f"question {number}")
    kept = sum(len(entry.value) for (_, key), entry in house.kv._entries.items() if key.startswith("cache/e/"))
    assert 0 < kept <= 1024
    assert house.cache.counts[ACME]["not_kept"] > 10
    # What has expired makes room again.
    house.at += 100
    await house.ask("fresh")
    assert (await house.ask("fresh"))[1].cache == "hit"


async def test_sampled_calls_above_the_routes_temperature_are_not_kept():
    house = House(max_temperature=0.5)
    assert [(await house.ask(temperature=0.9))[1].cache for _ in range(2)] == ["bypass", "bypass"]
    assert [(await house.ask(temperature=0.5))[1].cache for _ in range(2)] == ["miss", "hit"]


async def test_a_kept_answer_counts_as_a_request_under_limits():
    house = House()
    await house.ask()
    with pytest.raises(LimitExceeded):
        await house.ask(meter=Purse(limit=0))


async def test_a_stream_is_replayed_in_pieces_that_make_the_same_text():
    house = House({"reply": "a word and another " * 30, "chunk_chars": 5})
    await house.ask()
    request = ChatRequest("route/r", (text_message("user", "hello"),), stream=True)
    async with aclosing(house.gateway.stream(who(), request)) as events:
        pieces = [event async for event in events]
    assert house.calls == 1
    assert isinstance(pieces[-1], Finish)
    assert len(pieces) > 5
    assert "".join(event.text for event in pieces[:-1]) == "a word and another " * 30


# --- single flight


async def test_equal_calls_at_once_share_one_provider_call():
    house = House({"reply": "shared", "first_delay_s": 0.05})
    results = await asyncio.gather(*(house.ask() for _ in range(20)))
    assert {text for text, _ in results} == {"shared"}
    assert house.calls == 1
    assert sorted(served.cache for _, served in results) == ["miss"] + ["shared"] * 19
    assert sorted(house.purse.rows) == [("cache:scripted", 0)] * 19 + [("scripted:scripted", 2)]
    assert (house.purse.open, house.cache._flights.open) == (0, {})


async def test_a_leader_whose_client_leaves_does_not_take_the_others_along():
    house = House({"reply": "one two three", "chunk_chars": 4, "chunk_delay_s": 0.02})
    leader = house.gateway.stream(who(), ChatRequest("route/r", (text_message("user", "hello"),)), meter=house.purse)
    await anext(leader)
    followers = [asyncio.ensure_future(house.ask()) for _ in range(5)]
    await asyncio.sleep(0.01)
    await leader.aclose()
    assert [(await follower)[0] for follower in followers] == ["one two three"] * 5
    assert house.calls == 2, "the first of those who waited leads the rest"
    assert house.purse.open == 0


async def test_a_leaders_own_limit_is_not_the_followers():
    house = House({"reply": "good", "first_delay_s": 0.02})
    leader = asyncio.ensure_future(house.ask(meter=Purse(limit=0)))
    followers = [asyncio.ensure_future(house.ask()) for _ in range(3)]
    with pytest.raises(LimitExceeded):
        await leader
    assert [(await follower)[0] for follower in followers] == ["good"] * 3
    assert house.calls == 1


async def test_a_followers_deadline_is_its_own():
    house = House({"reply": "late", "first_delay_s": 0.3})
    leader = asyncio.ensure_future(house.ask())
    await asyncio.sleep(0.02)
    with pytest.raises(DeadlineExceeded):
        await house.ask(ctx=who(deadline=Deadline.after(0.05)))
    assert (await leader)[0] == "late"


async def test_a_follower_that_leaves_takes_nobody_along():
    house = House({"reply": "good", "first_delay_s": 0.1})
    leader = asyncio.ensure_future(house.ask())
    leaving, staying = (asyncio.ensure_future(house.ask()) for _ in range(2))
    await asyncio.sleep(0.02)
    leaving.cancel()
    assert [(await call)[0] for call in (leader, staying)] == ["good", "good"]
    assert house.calls == 1


async def two_houses(kv, script, **cache):
    """Two workers that share a store."""
    houses = House(script, kv=kv, **cache), House(script, kv=kv, **cache)
    for house in houses:
        house.at = houses[0].at
    return houses


async def test_equal_calls_of_two_workers_share_one_provider_call():
    here, there = await two_houses(MemoryKv(), {"reply": "shared", "first_delay_s": 0.2})
    results = await asyncio.gather(*(house.ask() for house in (here, there) for _ in range(5)))
    assert {text for text, _ in results} == {"shared"}
    assert here.calls + there.calls == 1
    assert sorted(served.cache for _, served in results) == ["miss"] + ["shared"] * 9
    assert await here.kv.get(TenantId("acme"), "nothing") is None
    assert not [key for key in here.kv._entries if "cache/f/" in str(key)], "the lead is given back"


async def test_a_worker_does_not_wait_for_one_that_died_longer_than_it_may():
    here, there = await two_houses(MemoryKv(), {"reply": "x", "first_delay_s": 30}, coalesce_wait_s=0.4)
    dying = asyncio.ensure_future(here.ask())
    while not here.calls:
        await asyncio.sleep(0.01)
    waiting = asyncio.ensure_future(there.ask())
    await asyncio.sleep(0.1)
    assert there.calls == 0
    while not there.calls:
        await asyncio.sleep(0.02)
    for task in (dying, waiting):
        task.cancel()
    await asyncio.wait([dying, waiting])


async def test_when_the_asking_worker_fails_the_other_asks():
    kv = MemoryKv()
    here = House({"fail_status": 503, "first_delay_s": 0.2, "reply": "x"}, kv=kv)
    there = House({"reply": "well"}, kv=kv)
    there.at = here.at
    failing = asyncio.ensure_future(here.ask())
    while not here.calls:
        await asyncio.sleep(0.01)
    text, served = await there.ask()
    assert (text, served.cache, there.calls) == ("well", "miss", 1)
    with pytest.raises(InterlockError):
        await failing


async def test_answers_that_may_not_be_kept_are_not_shared_either():
    house = House({"reply": "x" * 50, "first_delay_s": 0.02}, max_temperature=0)
    await asyncio.gather(*(house.ask(temperature=1.0) for _ in range(3)))
    assert house.calls == 3


# --- keys

TEXTS = st.text(max_size=8)
REQUESTS = st.builds(
    ChatRequest,
    model=st.sampled_from(["route/r", "m/x"]),
    messages=st.lists(st.builds(text_message, st.sampled_from(["system", "user"]), TEXTS), max_size=3).map(tuple),
    max_output_tokens=st.none() | st.integers(1, 9),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    stop=st.lists(TEXTS, max_size=2).map(tuple),
    seed=st.none() | st.integers(0, 9),
    tools=st.lists(st.builds(ToolSpec, TEXTS, TEXTS, st.just({})), max_size=1).map(tuple),
    tool_choice=st.builds(ToolChoice, st.sampled_from(["auto", "none"])),
    response_schema=st.none() | st.just({}) | st.just({"type": "object"}),
    reasoning=st.none() | st.builds(Reasoning, st.sampled_from(["low", "high"])),
    native=st.none() | st.builds(Native, st.just("openai.chat"), st.dictionaries(st.sampled_from("ab"), TEXTS)),
    regions=st.lists(st.sampled_from(["eu", "us"]), max_size=1).map(tuple),
)
CONTEXTS = st.builds(
    who,
    tenant=st.sampled_from(["acme", "rival"]),
    key=st.sampled_from(["k1", "k2"]),
    user=st.none() | st.sampled_from(["ada", "bo"]),
    groups=st.lists(st.sampled_from(["hr", "it"]), max_size=2),
)
SCOPES = st.builds(
    CacheScope,
    app=st.sampled_from(["", "a"]),
    release=st.none() | st.sampled_from([ReleaseId("sha256:1"), ReleaseId("sha256:2")]),
    snapshot=st.sampled_from(["", "s1", "s2"]),
)


def _decisive(ctx, request, scope):
    """What must be equal for two calls to share an answer, written without looking at the key's code."""
    quiet = {"stream", "user_hint", "tags"}
    asked = tuple(repr(getattr(request, item.name)) for item in fields(request) if item.name not in quiet)
    key = ctx.principal.key_id if scope.release is None else ""
    return (ctx.tenant, ctx.readers, scope.release, scope.snapshot, key, asked)


@given(CONTEXTS, REQUESTS, SCOPES, CONTEXTS, REQUESTS, SCOPES, st.booleans(), st.booleans(), st.booleans())
def test_no_key_is_shared_across_tenants_permissions_releases_snapshots_or_parameters(
    ctx, request, scope, ctx2, request2, scope2, same_ctx, same_request, same_scope
):
    ctx2 = ctx if same_ctx else ctx2
    request2 = request if same_request else request2
    scope2 = scope if same_scope else scope2
    spec = CacheSpec(ttl_s=1)
    one, other = (
        key_of(*call, spec, route={"targets": ["x"]}) for call in ((ctx, request, scope), (ctx2, request2, scope2))
    )
    assert (one == other) == (_decisive(ctx, request, scope) == _decisive(ctx2, request2, scope2))


@pytest.mark.parametrize(
    "other",
    [
        {"who": {"tenant": "rival"}},
        {"who": {"key": "k2"}},
        {"who": {"user": "ada"}},
        {"scope": CacheScope(release=ReleaseId("sha256:2"))},
        {"scope": CacheScope(snapshot="s2")},
        {"temperature": 0.5},
        {"seed": 7},
        {"tools": (ToolSpec("t", "", {}),)},
        {"response_schema": {}},
    ],
    ids=repr,
)
async def test_a_call_that_differs_in_what_decides_is_not_a_hit(other):
    house = House()
    await house.ask()
    if "who" in other:
        other = {"ctx": who(**other["who"])}
    assert (await house.ask(**other))[1].cache == "miss"
    assert house.calls == 2


async def test_callers_of_an_app_share_by_what_they_may_read():
    house = House()
    scope = CacheScope(app="a", release=ReleaseId("sha256:1"), snapshot="s")
    await house.ask(scope=scope)
    assert (await house.ask(scope=scope, ctx=who(key="k2")))[1].cache == "hit"
    assert (await house.ask(scope=scope, ctx=who(key="k2", user="ada")))[1].cache == "miss"


def test_an_image_counts_by_its_bytes():
    spec, scope = CacheSpec(ttl_s=1), CacheScope()
    one, other = (ChatRequest("m", (Message("user", (ImagePart("image/png", data=data),)),)) for data in (b"a", b"b"))
    assert key_of(who(), one, scope, spec, route={}) != key_of(who(), other, scope, spec, route={})


# --- purges


async def _purged(house, what):
    return await house.cache.purge(ACME, what)


@pytest.mark.parametrize("store", ["memory", "sql"])
async def test_a_purge_forgets_what_it_names_and_nothing_else(store, tmp_path):
    sql = open_sql(f"sqlite:///{tmp_path / 'control.db'}")
    await sql.migrate()
    house = House(kv=SqlKv(sql) if store == "sql" else None)
    scopes = {
        name: CacheScope(app=name, release=ReleaseId("sha256:1"), documents=docs, collection=name)
        for name, docs in {"a": ["d1", "d2"], "b": ["d2", "d3"], "c": []}.items()
    }

    async def statuses():
        return {name: (await house.ask(scope=scope))[1].cache for name, scope in scopes.items()}

    await statuses()
    assert set((await statuses()).values()) == {"hit"}
    assert await _purged(house, Purge(document="d3")) == 1
    assert await statuses() == {"a": "hit", "b": "miss", "c": "hit"}
    assert await _purged(house, Purge(app="a")) == 1
    assert await statuses() == {"a": "miss", "b": "hit", "c": "hit"}
    assert await _purged(house, Purge(document="d2")) == 2
    assert await statuses() == {"a": "miss", "b": "miss", "c": "hit"}
    assert await _purged(house, Purge(collection="b")) == 1
    assert await statuses() == {"a": "hit", "b": "miss", "c": "hit"}
    await house.ask()
    assert await _purged(house, Purge(route="r")) >= 1
    assert (await house.ask())[1].cache == "miss"
    await statuses()
    assert await house.cache.purge(TenantId("rival"), Purge()) == 0
    assert set((await statuses()).values()) == {"hit"}
    assert await _purged(house, Purge()) >= 3
    assert set((await statuses()).values()) == {"miss"}
    await sql.close()


async def test_what_was_being_written_while_its_document_was_erased_is_given_to_nobody():
    house = House({"reply": "secret of d1", "first_delay_s": 0.05})
    scope = CacheScope(app="a", release=ReleaseId("sha256:1"), documents=["d1"])
    writing = asyncio.ensure_future(house.ask(scope=scope))
    await asyncio.sleep(0.02)
    await _purged(house, Purge(document="d1"))
    await writing
    # Nor do its bytes stay, which nobody would be given.
    assert "secret of d1" not in str(house.kv._entries)
    assert (await house.ask(scope=scope))[1].cache == "miss"


# --- the ladder


async def test_a_stale_answer_stands_in_when_no_target_can():
    house = House(
        [{"match": "hello", "reply": "known"}],
        ttl_s=10,
        stale_s=100,
        route={"degrade": ["cache", "refuse"], "cache": {"ttl_s": 10, "stale_s": 100}},
    )
    await house.ask()
    house.at += 50
    house.gateway.provider("scripted")._rules = [_rule(fail_status=503)]
    text, served = await house.ask()
    assert (text, served.cache, served.degraded) == ("known", "stale", "cache")
    house.at += 100
    with pytest.raises(Unavailable) as caught:
        await house.ask()
    assert (caught.value.code, caught.value.status, caught.value.retry_after_s) == ("degraded_refusal", 503, 30.0)


def _rule(**values):
    from interlock.gateway.settings import ScriptRule

    return ScriptRule(**values)


async def test_an_answer_of_last_resort_is_not_kept():
    house = House({"fail_status": 503}, route={"degrade": ["smaller"], "smaller": ["spare"]})
    assert (await house.ask())[0] == "spare"
    text, served = await house.ask()
    assert (text, served.degraded, served.cache) == ("spare", "smaller", "miss")


# --- entries

EVENTS = st.lists(
    st.builds(TextDelta, st.text(max_size=200))
    | st.builds(ReasoningDelta, TEXTS, st.just("openai"), st.integers(0, 1), st.none() | st.just("sig"))
    | st.builds(ToolCallDelta, st.integers(0, 1), st.none() | st.just("id"), st.none() | st.just("n"), TEXTS),
    max_size=12,
)


@given(EVENTS)
def test_a_kept_answer_reads_back_as_the_same_answer(events):
    async def stream(items):
        for item in items:
            yield item

    events = [*events, Finish("stop", Usage(1, 2), "m")]
    kept = unpack(pack(Kept(joined(events), "p/m", 1.0, 0, {})))
    assert kept is not None
    again = asyncio.run(collect(stream(list(replayed(kept.events)))))
    assert again == asyncio.run(collect(stream(events)))


@given(st.binary(max_size=60))
def test_a_damaged_entry_is_a_miss(data):
    assert unpack(data) is None


def test_an_entry_of_the_first_version_stays_readable():
    old = (
        b'{"format":1,"target":"p/m","written_at":1.0,"generation":0,"epochs":{"all":0},"events":[{"kind":"text",'
        b'"text":"hi","logprobs":null,"refusal":false},{"kind":"finish","reason":"stop","usage":{"input_tokens":1,'
        b'"output_tokens":1},"model":"m","stop_sequence":null,"response_id":null,"extra":{}}]}'
    )
    assert unpack(old).events == (TextDelta("hi"), Finish("stop", Usage(1, 1), "m"))


# --- embeddings


async def test_only_texts_that_are_new_are_embedded_and_order_is_kept():
    house = House()
    first = await house.gateway.embed(who(), "route/r", ["a", "b"], meter=house.purse)
    again = await house.gateway.embed(who(), "route/r", ["b", "c", "a", "c"], meter=house.purse)
    assert house.embedded == [["a", "b"], ["c"]]
    assert again.vectors[0] == pytest.approx(first.vectors[1])
    assert again.vectors[2] == pytest.approx(first.vectors[0])
    assert again.vectors[1] == again.vectors[3]
    assert (again.kept, again.usage.input_tokens) == (2, 1)
    await house.gateway.embed(who(), "route/r", ["a"], meter=house.purse)
    assert house.purse.rows == [("scripted:scripted", 2), ("scripted:scripted", 1), ("cache:scripted", 0)]
    await house.gateway.embed(who(tenant="rival"), "route/r", ["a"], meter=house.purse)
    assert house.embedded[-1] == ["a"]


# --- by meaning


def _calibration(embedder, threshold=0.6):
    return Calibration(embedder.id, threshold, 1, 1, 0.9, 0.9, 1, 50, 0, 100, 50, 50, 0.99, "sha256:0", "now")


async def test_a_question_that_means_the_same_is_answered_from_the_kept_answer():
    embedder = HashEmbedder()
    house = House({"reply": "via settings"}, embedder=embedder, calibration=_calibration(embedder), semantic=True)
    await house.ask("How do I reset my password?")
    text, served = await house.ask("Please how do I reset my password")
    assert (text, served.cache, house.calls) == ("via settings", "semantic", 1)
    assert house.purse.rows[-1] == ("cache:scripted", 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is parking free on day 2?", "Is parking free on day 3?"),
        ("Can I take a dog?", "Can I not take a dog?"),
        ("What is the capital of France?", "What is the capital of Germany?"),
        ("what is the capital of france", "what is the capital of germany"),
        ("Convert euros to dollars", "Convert dollars to euros"),
        ("How do I enable it?", "How do I disable it?"),
        ("Is it due before Monday?", "Is it due before Tuesday?"),
        ("Refund of order A-17", "Refund of order A-18"),
    ],
)
async def test_a_different_number_name_negation_or_direction_is_never_the_same_question(one, other):
    embedder = HashEmbedder()
    house = House(embedder=embedder, calibration=_calibration(embedder, threshold=-1.0), semantic=True)
    await house.ask(one)
    assert (await house.ask(other))[1].cache == "miss"


async def test_only_the_question_may_differ():
    embedder = HashEmbedder()
    house = House(embedder=embedder, calibration=_calibration(embedder, threshold=-1.0), semantic=True)
    await house.ask("how do I reset my password")
    for other in ({"temperature": 0.7}, {"ctx": who(user="ada")}, {"ctx": who(tenant="rival")}):
        assert (await house.ask("please how do I reset my password", **other))[1].cache == "miss"
    scope = CacheScope(release=ReleaseId("sha256:1"), snapshot="s1")
    await house.ask("how do I reset my password", scope=scope)
    assert (await house.ask("please how do I reset my password", scope=scope))[1].cache == "miss"


def test_a_route_cannot_switch_it_on_without_a_calibration():
    with pytest.raises(Misconfigured) as caught:
        House(embedder=HashEmbedder(), semantic=True)
    assert caught.value.code == "semantic_cache_uncalibrated"
    assert caught.value.param == "gateway.routes.r.cache.semantic"
    with pytest.raises(Misconfigured):
        House(embedder=HashEmbedder(), calibration=_calibration(HashEmbedder(name="other")), semantic=True)
