"""Metadata filters: what they let through, and that rights always stand above them."""

from __future__ import annotations

import time
from dataclasses import replace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import InvalidInput
from interlock.knowledge.filters import OPERATORS, parse_filter, read_filter

from .conftest import caller

NOTE = "---\nyear: {year}\nstatus: {status}\nreviewed: {reviewed}\n---\n# Note {year}\n\nThe lamp is {colour}.\n"


async def three_notes(house):
    for year, status, colour in ((2021, "old", "red"), (2023, "Current", "green"), (2026, "current", "blue")):
        text = NOTE.format(year=year, status=status, colour=colour, reviewed=f"{year}-03-0{year - 2020}")
        house.write(f"notes/{year}.md", text)
    house.write("plain.md", "# Plain\n\nThe lamp is off.\n")
    await house.ingest()


def years(passages):
    return sorted({passage.source.removesuffix(".md").rpartition("/")[2] for passage in passages})


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"status": "current"}, ["2023", "2026"]),
        ({"year": 2023}, ["2023"]),
        ({"year": [2021, "2026"]}, ["2021", "2026"]),
        ({"year": {"gte": 2022, "lt": 2026}}, ["2023"]),
        ({"reviewed": {"gt": "2023-01-01"}}, ["2023", "2026"]),
        ({"reviewed": {"lte": "2023-03-03T00:00:00Z"}}, ["2021", "2023"]),
        ({"status": {"ne": "old"}}, ["2023", "2026", "plain"]),
        ({"year": {"exists": False}}, ["plain"]),
        ({"document.source": {"matches": "notes/202[13].md"}}, ["2021", "2023"]),
        ({"document.title": {"contains": "NOTE"}}, ["2021", "2023", "2026"]),
        ({"status": "current", "year": {"lt": 2000}}, []),
        ({"nothing": "x"}, []),
    ],
)
async def test_a_filter_narrows_both_legs(house, mode, given, found):
    await three_notes(house)
    assert years(await house.search("the lamp", mode=mode, filter=read_filter(given))) == found


@pytest.mark.parametrize("pattern", ["*a" * 400, "**/" * 300 + "a", "**a*" * 200, "*" * 900 + "a", "[a-z]*" * 160])
async def test_no_pattern_keeps_a_search_busy(house, pattern):
    house.write("a" * 60 + "/" + "a" * 100 + ".md", "# Lamp\n\nThe lamp is red.\n")
    await house.ingest()
    narrowed = read_filter({"document.source": {"matches": pattern}})
    started = time.process_time()
    await house.search("lamp", filter=narrowed)
    assert time.process_time() - started < 2.0


async def longest_wait(work):
    """How long, in seconds, nothing else came to its turn while `work` ran."""
    waits = [0.0]

    async def beat():
        while True:
            before = time.monotonic()
            await anyio.sleep(0.005)
            waits.append(time.monotonic() - before)

    async with anyio.create_task_group() as group:
        group.start_soon(beat)
        await anyio.sleep(0.02)
        try:
            await work()
        finally:
            await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    return max(waits)


async def linked(house, count, url):
    """Documents with a long value that a pattern can be tried on."""
    for number in range(count):
        house.write(f"{number}.md", f"# Lamp {number}\n\nThe lamp {number} is red.\n")
    await house.ingest(metadata=[{"match": "**", "set": {"url": url}}])


@pytest.mark.parametrize("pattern", ["**" + "a" * 300 + "**" + "a" * 300 + "b", "**?" * 300])
async def test_others_are_answered_while_a_filter_is_tried(house, pattern):
    await linked(house, 60, "a" * 990)
    narrowed = read_filter({"url": {"matches": pattern}})
    started = time.process_time()
    assert await longest_wait(lambda: house.search("lamp", filter=narrowed)) < 0.4
    assert time.process_time() - started < 2.0


async def test_a_filter_that_takes_too_long_is_refused(house, monkeypatch):
    await linked(house, 60, "a" * 990)
    monkeypatch.setattr("interlock.knowledge.narrowing.WITHIN_S", 0.001)
    with pytest.raises(InvalidInput) as caught:
        await house.search("lamp", filter=read_filter({"url": {"matches": "**?" * 300}}))
    assert (caught.value.code, caught.value.param) == ("filter_too_slow", "filter")
    # A plain condition takes far less.
    assert await house.search("lamp", filter=read_filter({"url": {"contains": "aaa"}}))


def test_long_lists_of_values_cost_no_more_than_short_ones():
    info = document("team 1")
    narrowed = read_filter({"f": [f"team {n}" for n in range(2, 202)]})
    narrowed.holds(info)
    started = time.process_time()
    assert not any(narrowed.holds(info) for _ in range(20_000))
    assert time.process_time() - started < 1.0


async def test_the_best_of_what_is_left_comes_even_when_others_are_better(house):
    await three_notes(house)
    for number in range(60):
        house.write(f"more/{number}.md", f"# Lamp {number}\n\nlamp lamp lamp {number}\n")
    await house.ingest()
    assert years(await house.search("lamp", limit=1, filter=read_filter({"year": 2021}))) == ["2021"]


async def test_rights_stand_above_filters(house):
    house.write("secret.md", "---\nteam: red\n---\n# Secret\n\nThe lamp is hidden.\n")
    await house.ingest(permissions=[{"match": "**", "readers": ["group:red"]}])
    narrowed = read_filter({"team": "red"})
    assert await house.search("lamp", filter=narrowed) == []
    assert len(await house.search("lamp", ctx=caller("red"), filter=narrowed)) == 1


async def test_facts_that_change_are_seen_by_the_next_search(house):
    house.write("a.md", "# A\n\nThe lamp is on.\n")
    await house.ingest(metadata=[{"match": "**", "set": {"team": "red"}}])
    assert len(await house.search("lamp", filter=read_filter({"team": "red"}))) == 1
    await house.ingest(metadata=[{"match": "**", "set": {"team": "blue"}}])
    assert await house.search("lamp", filter=read_filter({"team": "red"})) == []
    assert len(await house.search("lamp", filter=read_filter({"team": "blue"}))) == 1


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"": 1}, "filter"),
        ({"document.nope": 1}, "filter.document.nope"),
        ({"year": {}}, "filter.year"),
        ({"year": {"near": 1}}, "filter.year"),
        ({"year": {"exists": "yes"}}, "filter.year"),
        ({"year": []}, "filter.year"),
        ({"year": None}, "filter.year"),
        ({"year": {"gt": [1]}}, "filter.year"),
        ({"year": float("nan")}, "filter.year"),
        ({"year": "x" * 1001}, "filter.year"),
        ({str(n): n for n in range(21)}, "filter"),
    ],
)
def test_a_wrong_filter_names_its_field(given, param):
    with pytest.raises(InvalidInput) as caught:
        read_filter(given)
    assert caught.value.param == param


def test_the_command_line_writes_conditions_with_signs():
    wanted = {
        "a": "x",
        "b": {"gte": "2"},
        "c": ["1", "2"],
        "d": {"ne": "y"},
        "e": {"matches": "*.md"},
        "f": {"lt": "3"},
    }
    assert set(parse_filter(["a=x", "b>=2", "c=1,2", "d!=y", "e~*.md", "f<3"]).conditions) == set(
        read_filter(wanted).conditions
    )
    for text in ("a", "=x", "a=", ">3"):
        with pytest.raises(InvalidInput):
            parse_filter([text])


values = st.one_of(st.text(max_size=8), st.integers(), st.floats(allow_nan=False), st.booleans())


def document(held):
    from datetime import UTC, datetime

    from interlock.knowledge.records import Recorder
    from interlock.knowledge.sources import parse_spec

    spec = parse_spec({"collection": "c", "sources": [{"path": "."}]}, base=__import__("pathlib").Path(), name="c")
    blank = Recorder(caller(), spec, datetime.now(UTC))._blank("a.md")
    return replace(blank, metadata={"f": held})


@given(st.text(max_size=8), values, st.sampled_from([o for o in OPERATORS if o not in {"exists", "in"}]))
def test_any_condition_is_answered(held, value, operator):
    info = document(held)
    condition = read_filter({"f": {operator: value}})
    assert condition.holds(info) in {True, False}
    if operator in {"eq", "ne"}:
        other = read_filter({"f": {"ne" if operator == "eq" else "eq": value}})
        assert condition.holds(info) is not other.holds(info)


texts = st.sampled_from(
    ["1", "1.0", " 1 ", "true", "TRUE", "nan", "2026-01-02", "2026-01-02T00:00:00Z", "20260102", "a", "A ", ""]
)


@given(texts, st.lists(st.one_of(texts, st.booleans(), st.sampled_from([0, 1, 1.0, 20260102])), min_size=1, max_size=4))
def test_one_of_several_is_any_of_them(held, several):
    info = document(held)
    assert read_filter({"f": several}).holds(info) is any(read_filter({"f": each}).holds(info) for each in several)
