"""A leg that is near random in a language is left out of searches in it."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from interlock.core.errors import Unavailable
from interlock.flows.search_views import explanation_view
from interlock.knowledge import KnowledgeService, KnowledgeSettings
from interlock.knowledge.legs import LegHealth, LegOff, Tried, legs_off
from interlock.knowledge.settings import BOTH_LEGS, CollectionSettings, FusionSettings, LegSettings
from interlock.testing.embedders import HashEmbedder

from .conftest import OPERATOR, caller

ENGLISH = ("river", "stone", "bridge", "castle", "forest", "garden", "market", "harbour", "tower", "window", "letter")
ARABIC = ("نهر", "حجر", "جسر", "قلعة", "غابة", "حديقة", "سوق", "ميناء", "برج", "نافذة", "مطبخ", "رسالة", "موسيقى")


class Blind:
    """Knows nothing of Arabic: what it gives for it has nothing to do with the text."""

    def __init__(self):
        self._inner = HashEmbedder()
        self.id = "blind-1"
        self.embedded = []
        self.fails = False

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def embed(self, texts, kind):
        if self.fails and kind == "query":
            raise Unavailable("away")
        self.embedded += [(kind, text) for text in texts]
        vectors = np.array(await self._inner.embed(texts, kind))
        for number, text in enumerate(texts):
            if any("\u0600" <= letter <= "\u06ff" for letter in text):
                noise = np.random.default_rng(list(f"{kind} {text}".encode())).normal(size=vectors.shape[1])
                vectors[number] = noise / np.linalg.norm(noise)
        return vectors.astype(np.float32)

    def queries(self):
        return sum(kind == "query" for kind, _ in self.embedded)


@pytest.fixture
def blind(house):
    """The same house with an embedder that cannot read Arabic."""
    return with_settings(house, Blind())


def with_settings(house, embedder, **settings):
    made = KnowledgeService(
        house.sql,
        house.blobs,
        house.index,
        settings=KnowledgeSettings(batch_passages=50, **settings),
        embedder=embedder,
    )
    return replace(house, knowledge=made, embedder=embedder)


def write(house, words, count, *, folder):
    chance = random.Random(folder)
    for number in range(count):
        lines = [" ".join(chance.choices(words, k=12)) + f" {folder}{number}." for _ in range(2)]
        house.write(f"{folder}/{number}.md", " ".join(lines) + "\n")


async def explain(house, query, ctx=None, **more):
    return await house.knowledge.explain(ctx or caller(), query, collection="docs", **more)


async def test_a_leg_that_knows_nothing_of_a_language_is_left_out_there_alone(blind):
    write(blind, ENGLISH, 30, folder="en")
    write(blind, ARABIC, 30, folder="ar")
    await blind.ingest()
    arabic = await explain(blind, " ".join(ARABIC[:4]))
    assert [(one.leg, one.why) for one in arabic.off] == [("dense", "near_random")]
    assert arabic.fusion == "words alone"
    assert {candidate.dense for candidate in arabic.candidates} == {None}
    english = await explain(blind, "river stone bridge castle")
    assert english.off == ()
    assert any(candidate.dense is not None for candidate in english.candidates)
    alone = await blind.search(" ".join(ARABIC[:4]), mode="dense")
    assert alone
    assert alone[0].dense_score is not None


async def test_only_overseers_are_told_the_figures(blind):
    write(blind, ARABIC, 30, folder="ar")
    await blind.ingest()
    assert "sentences found their own" not in (await explain(blind, ARABIC[0])).off[0].told(figures=False)
    assert "sentences found their own" in (await explain(blind, ARABIC[0])).off[0].told(figures=True)
    for_reader = explanation_view(await explain(blind, ARABIC[0]))["legs_off"][0]["told"]
    for_overseer = explanation_view(await explain(blind, ARABIC[0], OPERATOR))["legs_off"][0]["told"]
    assert for_reader == "near random in ar: sentences of the documents do not find them again"
    assert for_overseer.startswith(for_reader + " (")


async def test_an_unchanged_collection_is_not_judged_again_and_a_changed_one_is(blind):
    write(blind, ARABIC, 40, folder="ar")
    await blind.ingest()
    first = blind.embedder.queries()
    assert 20 <= first <= 100
    await blind.ingest()
    write(blind, ARABIC, 1, folder="more")
    await blind.ingest()
    assert blind.embedder.queries() == first
    write(blind, ARABIC, 10, folder="much")
    await blind.ingest()
    assert blind.embedder.queries() > first


async def test_documents_that_few_may_read_are_judged_too(blind):
    write(blind, ARABIC, 30, folder="ar")
    await blind.ingest(permissions=[{"match": "**", "readers": ["group:board"]}])
    told = await explain(blind, ARABIC[0], caller("board"))
    assert [one.leg for one in told.off] == ["dense"]


async def test_of_a_small_collection_nothing_is_said(blind):
    write(blind, ARABIC, 19, folder="ar")
    await blind.ingest()
    assert blind.embedder.queries() == 0
    assert (await explain(blind, ARABIC[0])).off == ()


async def test_a_run_ends_well_when_its_legs_cannot_be_judged(blind):
    write(blind, ARABIC, 30, folder="ar")
    blind.embedder.fails = True
    report = await blind.ingest()
    assert report.added == 30
    blind.embedder.fails = False
    assert (await explain(blind, ARABIC[0])).off == ()


@pytest.mark.parametrize(
    ("settings", "left_out"),
    [
        ({"legs": LegSettings(check=False)}, []),
        ({"legs": LegSettings(dense="on")}, []),
        ({"legs": LegSettings(lexical="off", dense="on")}, ["lexical"]),
        ({"collections": {"docs": CollectionSettings(legs=LegSettings(dense="on"))}}, []),
        ({"collections": {"docs": CollectionSettings(fusion=FusionSettings(dense_weight=0.2))}}, []),
        ({"collections": {"docs": CollectionSettings(candidates=30)}}, ["dense"]),
    ],
)
async def test_settings_overrule_the_check(house, settings, left_out):
    mine = with_settings(house, Blind(), **settings)
    write(mine, ARABIC, 30, folder="ar")
    await mine.ingest()
    assert [one.leg for one in (await explain(mine, ARABIC[0])).off] == left_out


def test_both_legs_cannot_be_off():
    with pytest.raises(ValueError, match="both legs are off"):
        LegSettings(dense="off", lexical="off")


async def test_scores_that_are_all_equal_are_fused_by_ranks_where_nothing_was_judged(house):
    house.write("a.md", "# One\n\nriver stone\n")
    house.write("b.md", "# Two\n\nriver stone\n")
    house.write("c.md", "# Three\n\ncastle forest\n")
    await house.ingest()
    told = await explain(house, "river")
    assert told.fusion.startswith("rrf, k 60: by words everything scores alike")
    assert (await explain(house, "river one")).fusion == "convex, dense weight 0.4"


def test_a_leg_is_near_random_beside_one_that_is_not():
    assert Tried(100, 10, 0.04, 29, 100).is_near_random("dense")
    assert not Tried(100, 10, 0.04, 29, 100).is_near_random("lexical")
    assert not Tried(100, 10, 0.04, 73, 100).is_near_random("dense")
    # Copies of one text: neither leg finds the one that was meant.
    assert not Tried(100, 10, 0.04, 29, 35).is_near_random("dense")


def test_a_language_that_was_not_judged_keeps_both_legs():
    health = LegHealth("s", 1, 50, "2026-01-01", {"ar": Tried(50, 2, 0.04, 3, 50)})
    assert [one.leg for one in legs_off(LegSettings(), health, ("ar",))] == ["dense"]
    assert legs_off(LegSettings(), health, ("ar", "en")) == ()
    assert legs_off(LegSettings(), health, ()) == ()
    assert legs_off(BOTH_LEGS, health, ("ar",)) == ()
    assert legs_off(LegSettings(dense="off"), health, ("ar",)) == (LegOff("dense", "settings"),)


def test_a_stored_judgement_is_read_again_and_one_of_another_space_is_not():
    health = LegHealth("s", 1, 50, "2026-01-01", {"ar": Tried(50, 2, 0.04, 3, 50)})
    assert LegHealth.of(health.to_json(), "s") == health
    assert LegHealth.of(health.to_json(), "t") is None
    assert LegHealth.of({"version": 2, "space": "s"}, "s") is None
