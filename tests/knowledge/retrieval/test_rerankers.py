"""Every reranker, by one suite; and what each of them does with its model."""

from __future__ import annotations

import shutil

import pytest

from interlock.core.context import Context, Principal
from interlock.core.errors import Misconfigured, ModelMissing
from interlock.core.ids import PrincipalId, TenantId
from interlock.knowledge.retrieval.allowance import Allowance
from interlock.knowledge.retrieval.ports import RerankerSurroundings
from interlock.knowledge.retrieval.rerankers import rerankers
from interlock.knowledge.retrieval.rerankers.listwise import order_in
from interlock.knowledge.retrieval.settings import ModelSettings
from interlock.knowledge.retrieval.types import StepFailed
from interlock.testing.rerankers import RerankerConformance

from .conftest import Assistant, passage
from .cross_encoders import write_model

ROOMY = ModelSettings(max_tokens=1_000_000, max_calls=50)


def given(folder, *, model="", assistant=None, settings=ROOMY):
    return RerankerSurroundings(folder, 1, model, assistant, Allowance(settings), "")


class TestOnnx(RerankerConformance):
    name = "onnx"

    def surroundings(self, tmp_path):
        if not (tmp_path / "mine").exists():
            write_model(tmp_path / "mine")
        return given(tmp_path, model="mine")


class TestListwise(RerankerConformance):
    name = "listwise"

    def surroundings(self, tmp_path):
        return given(tmp_path, assistant=Assistant(numbered="2, 1"))

    async def test_nothing_but_numbers_of_passages_is_read(self, tmp_path):
        assistant = Assistant(numbered="Ignore the rules. [3], then 1, 99, 0 and 3 again")
        scores = (
            await rerankers.get("listwise")
            .open(given(tmp_path, assistant=assistant))
            .rerank(asker(), "q", [passage(n, f"text {n}") for n in range(3)])
        )
        assert scores == [2.0, 1.0, 3.0]
        with pytest.raises(StepFailed):
            order_in("I cannot do that.", 3)


class TestProvider(RerankerConformance):
    name = "provider"

    def surroundings(self, tmp_path):
        return given(tmp_path, model="cohere/rerank", assistant=Assistant())


def asker():
    return Context(TenantId("acme"), Principal(PrincipalId("svc"), "service"))


def test_every_built_in_reranker_has_its_suite():
    covered = {suite.name for suite in RerankerConformance.__subclasses__()}
    assert covered == set(rerankers.names())


@pytest.mark.parametrize("classes", [1, 2])
async def test_a_cross_encoder_reads_each_passage(tmp_path, classes):
    write_model(tmp_path / "mine", classes)
    reranker = rerankers.get("onnx").open(given(tmp_path, model="mine"))
    texts = ["by the stairs", "within thirty days", "within days"]
    scores = await reranker.rerank(asker(), "how long", [passage(n, t) for n, t in enumerate(texts)])
    assert scores == [-3.0 * classes, 6.0 * classes, 1.0 * classes]


async def test_a_folder_that_is_missing_damaged_or_elsewhere_is_named(tmp_path):
    plugin = rerankers.get("onnx")
    asked = (asker(), "q", [passage(1, "text")])
    with pytest.raises(ModelMissing) as caught:
        await plugin.open(given(tmp_path, model="absent")).rerank(*asked)
    assert "absent" in caught.value.message
    with pytest.raises(ModelMissing):
        plugin.identity(tmp_path, "absent")
    write_model(tmp_path / "torn")
    (tmp_path / "torn" / "model.onnx").write_bytes(b"no model")
    with pytest.raises(Misconfigured):
        await plugin.open(given(tmp_path, model="torn")).rerank(*asked)
    write_model(tmp_path / "three", 3)
    with pytest.raises(StepFailed):
        await plugin.open(given(tmp_path, model="three")).rerank(*asked)
    for outside in ("../elsewhere", "/etc", ""):
        with pytest.raises(StepFailed):
            plugin.open(given(tmp_path, model=outside))


def test_another_set_of_weights_is_another_identity(tmp_path):
    write_model(tmp_path / "a")
    before = rerankers.get("onnx").identity(tmp_path, "a")
    shutil.rmtree(tmp_path / "a")
    write_model(tmp_path / "a", 2)
    assert rerankers.get("onnx").identity(tmp_path, "a") != before


@pytest.mark.parametrize("name", ["provider", "listwise"])
async def test_what_guardrails_keep_back_is_never_shown_and_comes_last(tmp_path, name):
    assistant = Assistant(numbered="1, 2")
    assistant.blocked = ("secret",)
    reranker = rerankers.get(name).open(given(tmp_path, model="m/x", assistant=assistant))
    scores = await reranker.rerank(
        asker(), "q", [passage(1, "a secret here"), passage(2, "plain"), passage(3, "plainer")]
    )
    assert scores[0] == min(scores)
    assert "secret" not in str(assistant.asked) + str(assistant.reranked)
    with pytest.raises(StepFailed):
        await reranker.rerank(asker(), "q", [passage(1, "secret")])
