"""Nothing reaches somebody who may not read it: a slice of the leak suite, and proof that it looks."""

from __future__ import annotations

import random

import pytest
from benchmarks.leak_world import World
from benchmarks.leaks import run_round

import interlock.testing.postgres
from interlock.testing.postgres import fresh_database

postgres_server = interlock.testing.postgres.postgres_server
CHECKS = 1000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def test_no_answer_holds_a_word_that_only_unreadable_documents_have(tmp_path, request, backend):
    stores = {"sql": fresh_database(request.getfixturevalue("postgres_server"))} if backend == "postgresql" else {}
    report = await run_round(backend, 0, checks=CHECKS, seed=7, folder=tmp_path / "w", stores=stores)
    assert report.leaks == []
    assert sum(report.checks.values()) >= CHECKS
    shown = {surface for surface, count in report.answered.items() if count}
    expected = {"rest search", "rest explain", "rest documents", "rest oversight", "vector stores", "mcp", "console"}
    expected |= {"stored answers", "beside hidden documents"}
    assert expected <= shown, "a surface that never shows a document proves nothing"


def test_the_suite_sees_a_leak():
    world = World(random.Random(3))
    person = world.people[0]
    closed = [one for one in world.documents if not world.may_read(person, one) and one.twin is None]
    open_ = [one for one in world.documents if world.may_read(person, one)]
    assert closed, "the world has documents that this person may not read"
    assert open_, "and some that they may"
    assert all(not world.leaked(person, one.markdown(), "") for one in open_)
    secret = next(one for one in closed if not one.words() <= world.allowed(person, facts=False))
    assert world.leaked(person, secret.markdown(), "") >= {secret.text["owner"]}
    cut = secret.text["owner"][:8]
    assert world.leaked(person, f"… {cut}…", "") == {secret.text["owner"]}, "the beginning of a word counts"
    assert not world.leaked(person, cut, f"what is {cut}"), "what somebody said is no news to them"
    told = secret.markdown()
    assert world.leaked(world.people[-2], told, "", facts=True) <= secret.words(), "overseers know facts, not text"


def test_groups_within_groups_count():
    world = World(random.Random(1))
    world.parents = {"g0": set(), "g1": {"g0"}, "g2": {"g1"}}
    person = world.people[0]
    person.direct = {"g2"}
    assert world.groups(person) == {"g0", "g1", "g2"}
    document = world.documents[0]
    world.rules = [(document.path, ["group:g0"])]
    assert world.may_read(person, document)
    person.direct = set()
    assert not world.may_read(person, document)
