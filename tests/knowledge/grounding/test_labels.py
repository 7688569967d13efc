"""The hand labels of cited sentences: counts, and that the checker of today agrees with them."""

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from interlock.core.passages import Passage
from interlock.knowledge.chunkers.structural import StructuralChunker
from interlock.knowledge.grounding.citations import without_markers
from interlock.knowledge.grounding.support import check_evidence
from interlock.knowledge.grounding.types import Evidence
from interlock.knowledge.grounding.units import units
from interlock.knowledge.loaders import find_loader, loaders

HANDBOOK = Path(__file__).resolve().parents[3] / "examples" / "handbook"
LABELS = [json.loads(line) for line in (HANDBOOK / "labels" / "support.jsonl").read_text("utf-8").splitlines()]


@cache
def quotable(source: str) -> tuple[Evidence, ...]:
    """Everything of a document that can be quoted."""
    name = find_loader(source)
    assert name is not None
    document = loaders.get(name).load((HANDBOOK / "documents" / source).read_bytes(), source)
    chunks = StructuralChunker().chunk(document, count_tokens=lambda text: len(text.split()), max_tokens=250)
    passages = [
        Passage(
            f"{source}#{i}", source, source, source, document.title, c.heading,
            document.text[c.span.start : c.span.end], c.span,
        )
        for i, c in enumerate(chunks)
    ]  # fmt: skip
    return tuple(units(passages, {source: document.text}))


def test_the_labels_are_many_and_complete():
    assert len(LABELS) >= 150
    assert len({(row["question"], row["sentence"]) for row in LABELS}) == len(LABELS)
    assert {row["label"] for row in LABELS} <= {"supported", "unsupported"}
    shown = Counter((row["label"], row["shown"]) for row in LABELS)
    assert shown["supported", True] >= 150
    assert shown["unsupported", True] == 0, "an unsupported sentence was shown: the checker has to change"
    assert shown["unsupported", False] >= 10, "without refused sentences the file could not catch a lax checker"


@pytest.mark.parametrize("row", LABELS, ids=lambda row: f"{row['id']}-{row['origin']}")
def test_the_checker_agrees_with_the_label(row):
    evidence = next((e for e in quotable(row["source"]) if e.text == row["quote"]), None)
    assert evidence is not None, "the quote is a sentence or row of its document"
    verdict = check_evidence(without_markers(row["sentence"]), evidence)
    if row["shown"]:
        assert verdict.supported == (row["label"] == "supported"), verdict
    else:
        assert not verdict.supported, verdict
