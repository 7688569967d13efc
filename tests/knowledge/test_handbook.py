"""The whole room on the handbook example: real files, real model, real stores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from interlock.core.context import EndUser
from interlock.knowledge import KnowledgeService, KnowledgeSettings, read_spec

from .conftest import OPERATOR

HANDBOOK = Path(__file__).parents[2] / "examples" / "handbook"


def squeeze(text):
    return " ".join(text.replace("|", " ").split())


def golden():
    lines = (HANDBOOK / "apps" / "handbook" / "evals" / "golden.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def users():
    people = yaml.safe_load((HANDBOOK / "users.yaml").read_text())["users"]
    return {one["id"]: EndUser(one["id"], frozenset(one["groups"])) for one in people}


@pytest.mark.model
async def test_the_handbook_answers_its_golden_questions_and_keeps_its_secrets(house, models):
    knowledge = KnowledgeService(house.sql, house.blobs, house.index, settings=KnowledgeSettings(models=models))
    spec = read_spec(HANDBOOK / "knowledge" / "handbook.yaml")
    first = await knowledge.ingest(OPERATOR, spec)
    assert (first.failed, first.skipped) == ((), 0)
    second = await knowledge.ingest(OPERATOR, spec)
    assert (second.unchanged, second.embedding_tokens, second.snapshot) == (first.added, 0, first.snapshot)
    people, found_at = users(), []
    infos = {info.id: info for info in await knowledge.documents(OPERATOR)}
    for case in golden():
        ctx = OPERATOR.on_behalf_of(people[case["as"]])
        passages = await knowledge.search(ctx, case["question"], collection="handbook", limit=8)
        assert all(infos[p.document_id].readers & ctx.readers for p in passages)
        if case["kind"] in {"single", "double"}:
            places: dict[object, int] = {}
            for number, gold in enumerate(case["gold"]):
                rank = next((rank for rank, p in enumerate(passages, 1) if holds(p, gold)), 99)
                place = gold.get("place", f"alone {number}")
                places[place] = min(rank, places.get(place, 99))
            found_at += places.values()
    # Measured 2026-11-22 over 100 places: .94 within eight, .91 within three. One question is .01.
    assert sum(rank <= 8 for rank in found_at) / len(found_at) >= 0.92
    assert sum(rank <= 3 for rank in found_at) / len(found_at) >= 0.88


def holds(passage, gold):
    return passage.source == gold["document"] and squeeze(gold["quote"]) in squeeze(passage.text)
