"""Human review: blind, with overlap, adjudicated, and measured."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interlock.core.audit import AuditEvent
from interlock.core.context import Context, Principal, Role
from interlock.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from interlock.core.ids import PrincipalId, TenantId
from interlock.evals.judges.labels import read_labels
from interlock.evals.review.service import Reviews
from interlock.evals.review.types import Item, QueueSpec
from interlock.stores.sql import open_sql

pytestmark = pytest.mark.anyio
SPEC = QueueSpec(queue="answers", rubric="Is it right?", labels=["bad", "fair", "good"], overlap=1.0, raters=2)


class Audit:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def append(self, event: AuditEvent) -> None:
        self.events.append(event)

    def append_soon(self, event: AuditEvent) -> None:
        self.events.append(event)


def person(name: str, *roles: Role, tenant: str = "acme") -> Context:
    given = frozenset(roles or (Role.REVIEWER,))
    return Context(TenantId(tenant), Principal(PrincipalId(name), "user", given))


LEAD = person("lead", Role.DEVELOPER)


def items(count: int, **fields: object) -> list[Item]:
    return [
        Item.model_validate({"id": f"i{n}", "question": f"q{n}?", "answer": f"a{n}", **fields}) for n in range(count)
    ]


@pytest.fixture
async def reviews(tmp_path: Path) -> AsyncIterator[Reviews]:
    sql = open_sql(f"sqlite:///{tmp_path / 'r.db'}")
    await sql.migrate()
    yield Reviews(sql, Audit())
    await sql.close()


async def labelled(reviews: Reviews, who: Context, say: dict[str, str]) -> list[str]:
    """Label everything that waits for somebody, by a dictionary; gives the ids in the order they came."""
    seen = []
    while (task := await reviews.next(who, "answers")) is not None:
        seen.append(task.item.id)
        await reviews.say(who, "answers", task.item.id, say[task.item.id], seconds=2.0)
    return seen


async def test_an_item_is_seen_by_as_many_as_it_wants_and_by_nobody_twice(reviews: Reviews) -> None:
    await reviews.create(LEAD, SPEC)
    assert await reviews.add(LEAD, "answers", items(6)) == 6
    assert await reviews.add(LEAD, "answers", items(7)) == 1, "what is there stays as it is"
    good = {f"i{n}": "good" for n in range(7)}
    assert len(await labelled(reviews, person("ada"), good)) == 7
    assert len(await labelled(reviews, person("bob"), {**good, "i3": "bad"})) == 7
    assert await labelled(reviews, person("eve"), good) == [], "two have seen each"
    states = {each.item.id: each.state for each in await reviews.items(LEAD, "answers")}
    assert states == {f"i{n}": "disputed" if n == 3 else "agreed" for n in range(7)}


async def test_a_reviewer_sees_neither_what_others_said_nor_what_is_known(reviews: Reviews) -> None:
    await reviews.create(LEAD, SPEC)
    known = Item(id="gold", question="q?", answer="a", gold="bad", asker="ada", documents=["d1"])
    await reviews.add(LEAD, "answers", [known])
    task = await reviews.next(person("ada"), "answers")
    assert task is not None
    assert (task.item.gold, task.item.asker, task.item.documents) == (None, "", [])
    with pytest.raises(Forbidden):
        await reviews.items(person("ada"), "answers")
    with pytest.raises(Forbidden):
        await reviews.agreement(person("ada"), "answers")


async def test_two_people_do_not_hold_the_same_single_item(reviews: Reviews) -> None:
    await reviews.create(LEAD, SPEC.model_copy(update={"overlap": 0.0}))
    await reviews.add(LEAD, "answers", items(2))
    first, second = await reviews.next(person("ada"), "answers"), await reviews.next(person("bob"), "answers")
    assert first is not None and second is not None
    assert {first.item.id, second.item.id} == {"i0", "i1"}
    assert await reviews.next(person("eve"), "answers") is None
    again = await reviews.next(person("ada"), "answers")
    assert again is not None and again.item.id == first.item.id, "what is held comes back"
    with pytest.raises(NotFound, match="was not given to you"):
        await reviews.say(person("eve"), "answers", "i0", "good")


async def test_a_dispute_is_decided_and_then_closed(reviews: Reviews) -> None:
    await reviews.create(LEAD, SPEC)
    await reviews.add(LEAD, "answers", items(1))
    await labelled(reviews, person("ada"), {"i0": "good"})
    await labelled(reviews, person("bob"), {"i0": "bad"})
    await reviews.decide(LEAD, "answers", "i0", "fair", note="half of it is right")
    (item,) = await reviews.items(LEAD, "answers")
    assert (item.state, item.final, item.decided_by) == ("decided", "fair", "lead")
    with pytest.raises(Conflict, match="decided on this item"):
        await reviews.say(person("bob"), "answers", "i0", "good")
    with pytest.raises(InvalidInput, match="no label of this queue"):
        await reviews.decide(LEAD, "answers", "i0", "superb")


async def test_agreement_is_told_over_all_by_label_and_by_person(reviews: Reviews) -> None:
    await reviews.create(LEAD, SPEC)
    await reviews.add(LEAD, "answers", [*items(8), Item(id="gold", question="?", answer="!", gold="bad")])
    ada = {**{f"i{n}": ["bad", "fair", "good"][n % 3] for n in range(8)}, "gold": "bad"}
    await labelled(reviews, person("ada"), ada)
    await labelled(reviews, person("bob"), {**ada, "i0": "good", "gold": "good"})
    found = await reviews.agreement(LEAD, "answers")
    assert found.alpha is not None and 0.2 < found.alpha < 0.9
    assert (found.pairs[0].first, found.pairs[0].second, found.pairs[0].items) == ("ada", "bob", 9)
    assert found.pairs[0].agreement == pytest.approx(7 / 9)
    people = {rater.rater: rater for rater in found.raters}
    assert (people["ada"].gold, people["bob"].gold) == (1.0, 0.0)
    assert people["ada"].median_seconds == 2.0
    assert found.by_label["fair"] == pytest.approx(1.0)
    assert found.by_label["bad"] < 1


async def test_what_is_settled_calibrates_judges(reviews: Reviews, tmp_path: Path) -> None:
    await reviews.create(LEAD, SPEC)
    await reviews.add(LEAD, "answers", items(3, reference="the truth"))
    labels = {"i0": "bad", "i1": "fair", "i2": "good"}
    await labelled(reviews, person("ada"), labels)
    await labelled(reviews, person("bob"), {**labels, "i2": "bad"})
    lines = await reviews.labels(LEAD, "answers")
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(each.id, each.label) for each in read_labels(tmp_path / "labels.jsonl")] == [("i0", 0.0), ("i1", 0.5)]


async def test_pairs_are_reviewed_side_by_side(reviews: Reviews, tmp_path: Path) -> None:
    await reviews.create(LEAD, SPEC.model_copy(update={"pairwise": True}))
    with pytest.raises(InvalidInput, match="two answers"):
        await reviews.add(LEAD, "answers", items(1))
    await reviews.add(LEAD, "answers", items(2, other="another"))
    for who in ("ada", "bob"):
        reviewer = person(who)
        while (task := await reviews.next(reviewer, "answers")) is not None:
            meant = "a" if task.item.answer == "a0" else "b"
            await reviews.say(reviewer, "answers", task.item.id, meant if task.item.id == "i0" else "tie")
    lines = await reviews.labels(LEAD, "answers")
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [each.label for each in read_labels(tmp_path / "labels.jsonl")] == ["first", "tie"]


async def test_half_of_the_people_see_the_second_answer_first_and_say_the_same(reviews: Reviews) -> None:
    await reviews.create(LEAD, SPEC.model_copy(update={"pairwise": True}))
    await reviews.add(LEAD, "answers", items(60, other="another"))
    ada = person("ada")
    turned = 0
    while (task := await reviews.next(ada, "answers")) is not None:
        first = task.item.answer != "another"
        turned += not first
        await reviews.say(ada, "answers", task.item.id, "a" if first else "b")
        again = await reviews.again(ada, "answers", task.item.id)
        assert again.item == task.item
        assert again.said is not None and again.said.label == ("a" if first else "b")
    assert 15 < turned < 45
    found = await reviews.items(LEAD, "answers")
    assert {label.label for each in found for label in each.labels} == {"a"}


async def test_what_is_assigned_is_for_these_people_alone(reviews: Reviews) -> None:
    await reviews.create(LEAD, SPEC.model_copy(update={"overlap": 0.0, "reviewers": ["ada", "bob"]}))
    ada, bob, cy = person("ada"), person("bob"), person("cy")
    await reviews.add(LEAD, "answers", [*items(1), *[Item(id="hers", question="?", assigned=["ada"])]])
    await reviews.add(LEAD, "answers", [Item(id="both", question="?", assigned=["ada", "bob"])])
    with pytest.raises(Forbidden):
        await reviews.next(cy, "answers")
    assert await reviews.progress(cy) == []
    assert set(await labelled(reviews, bob, {"i0": "good", "both": "good"})) == {"i0", "both"}
    (waiting,) = await reviews.progress(ada)
    assert (waiting.done, waiting.left) == (0, 2)
    assert set(await labelled(reviews, ada, {"hers": "bad", "both": "bad"})) == {"hers", "both"}
    (done,) = await reviews.progress(LEAD)
    assert done.states == {"open": 0, "agreed": 2, "disputed": 1, "decided": 0}
    with pytest.raises(NotFound):
        await reviews.again(bob, "answers", "hers")


async def test_tenants_and_roles_are_kept_apart(reviews: Reviews) -> None:
    await reviews.create(LEAD, SPEC)
    await reviews.add(LEAD, "answers", items(1))
    other = person("ada", Role.REVIEWER, Role.DEVELOPER, tenant="other")
    with pytest.raises(NotFound):
        await reviews.next(other, "answers")
    assert await reviews.queues(other) == []
    with pytest.raises(Forbidden):
        await reviews.add(person("ada"), "answers", items(1))
    with pytest.raises(Forbidden):
        await reviews.next(person("x", Role.VIEWER), "answers")
    with pytest.raises(Conflict):
        await reviews.create(LEAD, SPEC)


async def test_what_is_erased_of_documents_and_persons_leaves_the_queues(reviews: Reviews) -> None:
    await reviews.create(LEAD, SPEC)
    given = [
        Item(id="by-ada", question="?", asker="ada"),
        Item(id="of-doc", question="?", documents=["d1", "d2"]),
        Item(id="stays", question="?", asker="bob", documents=["d3"]),
    ]
    await reviews.add(LEAD, "answers", given)
    assert await reviews.mentions(LEAD, ["d2"], "ada") == 2
    assert await reviews.forget(LEAD, ["d2"], "ada") == 2
    assert [each.item.id for each in await reviews.items(LEAD, "answers")] == ["stays"]
