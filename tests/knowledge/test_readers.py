"""The trained reader: what it makes of answers and near misses, and how it fails."""

from __future__ import annotations

import asyncio
import shutil

import numpy as np
import pytest
from tests.knowledge.grounding.builders import BagEmbedder, passage

from interlock.core.context import Context, Principal
from interlock.core.errors import Misconfigured, ModelMissing
from interlock.core.ids import PrincipalId, TenantId
from interlock.knowledge.grounding.service import Grounding
from interlock.knowledge.grounding.types import AnswerSpec
from interlock.knowledge.readers import readers
from interlock.knowledge.readers.minilm import MiniLMReader
from interlock.knowledge.types import Reading

QUESTION = "How long is a loan of a book?"
ANSWER = Reading(QUESTION, "Loans: A book is lent for 21 days.", "")
OTHER = Reading(QUESTION, "Opening hours: The library is closed on Mondays.", "")


class Scripted:
    """A reader that stands behind the sentences with a word in them."""

    id = "scripted"

    def __init__(self, *words: str) -> None:
        self.words = words
        self.read_pairs: list[Reading] = []

    async def read(self, pairs):
        self.read_pairs += pairs
        return np.array([4.0 if any(w in p.sentence for w in self.words) else -4.0 for p in pairs], dtype=np.float32)


def context() -> Context:
    return Context(TenantId("acme"), Principal(PrincipalId("svc"), "service"))


@pytest.mark.model
async def test_an_answer_reads_better_than_another_sentence(models):
    reader = readers.get("minilm").open(models, threads=1)
    logits = await reader.read([OTHER, ANSWER, OTHER])
    assert logits.dtype == np.float32
    assert logits[1] > logits[0] + 1
    assert logits[0] == pytest.approx(logits[2], abs=1e-4)
    assert (await reader.read([])).shape == (0,)


@pytest.mark.model
async def test_long_texts_are_cut_and_batches_keep_their_order(models):
    reader = readers.get("minilm").open(models, threads=1)
    long = Reading("why " * 200, "word " * 300, "before " * 300)
    logits = await reader.read([long, *[OTHER] * 9, ANSWER])
    assert np.isfinite(logits).all()
    assert int(np.argmax(logits[1:])) == 9


@pytest.mark.model
async def test_two_first_callers_load_it_once(models):
    reader = readers.get("minilm").open(models, threads=1)
    first, second = await asyncio.gather(reader.read([ANSWER]), reader.read([ANSWER]))
    assert first[0] == pytest.approx(second[0], abs=1e-4)


async def test_without_the_embedders_weights_it_says_how_to_get_them(tmp_path):
    with pytest.raises(ModelMissing, match="interlock models fetch minilm-l6-int8"):
        await readers.get("minilm").open(tmp_path, threads=1).read([ANSWER])


async def test_a_damaged_part_of_ours_is_named(tmp_path):
    changes = tmp_path / "minilm.npz"
    changes.write_bytes(b"not ours")
    with pytest.raises(Misconfigured, match=r"'minilm\.npz' is damaged") as caught:
        await MiniLMReader(tmp_path, changes=[changes]).read([ANSWER])
    assert caught.value.code == "reader_damaged"


@pytest.mark.model
async def test_another_embedders_file_is_refused(models, tmp_path):
    shutil.copy(models / "minilm-l6-int8" / "tokenizer.json", tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"\x08\x01")
    with pytest.raises(Misconfigured, match="damaged or another model's"):
        await MiniLMReader(tmp_path).read([ANSWER])


async def test_the_reader_moves_selection_and_the_decision():
    passages = [
        passage("A book is lent for 21 days.", source="a.md", title="Loans"),
        passage("A film is lent for 7 days.", source="b.md", title="Films"),
    ]
    chosen, probabilities = [], []
    question = "How long is it lent?"
    for words in ((), ("book",), ("film",)):
        grounding = Grounding(BagEmbedder(), reader=Scripted(*words) if words else Scripted("nothing"))
        selection = await grounding.select(context(), question, passages, AnswerSpec())
        chosen.append(selection.evidence[0].passage.source)
        assessed = grounding.assess(question, selection)
        probabilities.append(assessed.probability)
        assert "read" in dict(assessed.features)
    assert chosen[1:] == ["a.md", "b.md"]
    assert probabilities[1] > 0.4 > probabilities[0]


async def test_without_a_reader_nothing_is_read_and_the_nine_features_decide():
    grounding = Grounding(BagEmbedder())
    selection = await grounding.select(context(), QUESTION, [passage("A book is lent for 21 days.")], AnswerSpec())
    assert selection.evidence[0].read is None
    assert "read" not in dict(grounding.assess(QUESTION, selection).features)


async def test_each_part_of_a_question_is_read_for_itself():
    reader = Scripted("days", "pays")
    passages = [passage("A book is lent for 21 days."), passage("The borrower pays the postage.", source="b.md")]
    question = "How long is a book lent, and who pays the postage?"
    selection = await Grounding(BagEmbedder(), reader=reader).select(context(), question, passages, AnswerSpec())
    asked = [pair.question for pair in reader.read_pairs]
    assert set(asked) == {"How long is a book lent", "who pays the postage?", question}
    assert asked.count(question) == len(selection.evidence), "only what was chosen is read with the whole question"
    assert {e.passage.source for e in selection.evidence} == {"policy.md", "b.md"}


async def test_a_favourable_reader_is_not_heeded_where_codes_differ():
    passages = [passage("We plan to release version 7.6 in April.")]
    found = {}
    for logit in (4.0, 0.0):
        grounding = Grounding(BagEmbedder(), reader=Lukewarm(logit))
        for version in ("7.6", "7.7"):
            question = f"When do you release version {version}?"
            selection = await grounding.select(context(), question, passages, AnswerSpec())
            found[version, logit] = grounding.assess(question, selection).probability
    assert found["7.6", 4.0] > found["7.6", 0.0]
    assert found["7.7", 4.0] == found["7.7", 0.0]


async def test_a_part_is_looked_for_beside_the_evidence_of_the_other():
    passages = [
        passage("Sign-on with a badge comes with the plan Guild.", source="a.md"),
        passage("The plan Solo costs 3 pounds.", source="b.md"),
        passage("The plan Guild costs 6 pounds.", source="c.md"),
    ]
    question = "Which plan has sign-on with a badge, and what does that plan cost?"
    selection = await Grounding(BagEmbedder()).select(context(), question, passages, AnswerSpec())
    assert [e.passage.source for e in selection.evidence] == ["a.md", "c.md"]


class Lukewarm(Scripted):
    """A reader that doubts everything, by as much as it is told."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    async def read(self, pairs):
        return np.full(len(pairs), self.logit, dtype=np.float32)


@pytest.mark.parametrize(("logit", "chosen"), [(-1.0, 2), (-4.0, 1)])
async def test_two_parts_with_one_best_sentence_bring_a_second_one_unless_the_reader_rules_it_out(logit, chosen):
    passages = [
        passage("A book is lent for 21 days and its borrower pays 2 pounds a day after that.", source="a.md"),
        passage("Who pays late for a book is written to.", source="b.md"),
    ]
    question = "For how many days is a book lent, and what does its borrower pay a day?"
    grounding = Grounding(BagEmbedder(), reader=Lukewarm(logit))
    selection = await grounding.select(context(), question, passages, AnswerSpec())
    assert [e.passage.source for e in selection.evidence] == ["a.md", "b.md"][:chosen]
