from __future__ import annotations

import numpy as np
import pytest

from interlock.core.errors import Misconfigured, ModelMissing, TooLarge
from interlock.knowledge.embedders import embedders


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
