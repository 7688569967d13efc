"""Questions of a model through the gateway: billed, within a budget, checked; and erased with what they are made of."""

from __future__ import annotations

import json

import pytest
import yaml

from interlock.app import open_app
from interlock.core.errors import InterlockError
from interlock.flows.erasures import Erasure, erase
from interlock.flows.ingest import KIND, enqueue_ingest, run_ingest
from interlock.flows.question_making import make_questions
from interlock.testing.workspaces import write_workspace

pytestmark = pytest.mark.model
PRICES = {"scripted/*": {"input_per_million": "1", "output_per_million": "2"}}


def said(number, question=None):
    good = {"question": question or f"which creature makes music at place {number}?", "quote": f"bird of hall {number}"}
    weak = {"question": "what does the passage say?", "quote": "sings"}
    return "Certainly:\n" + json.dumps(weak) + "\n" + json.dumps(good)


@pytest.fixture
async def opened(tmp_path, models_dir):
    """A workspace of three documents, with a script of the model."""

    def make(script):
        folder = write_workspace(
            tmp_path / "w",
            settings={
                "models_dir": str(models_dir),
                "gateway": {"providers": {"scripted": {"kind": "scripted", "script": script}}},
                "cost": {"prices": PRICES},
            },
            documents={
                f"{n}.md": f"---\nsubject: person{n}\n---\n# Hall {n}\n\nThe bird of hall {n} sings in the evening.\n"
                for n in range(3)
            },
        )
        spec = {
            "collection": "docs",
            "sources": [{"path": "../documents", "name": "birds"}],
            "permissions": [{"match": "**", "readers": ["public"]}],
        }
        (folder / "knowledge" / "docs.yaml").write_text(yaml.safe_dump(spec))
        return folder

    return make


async def ingest(app):
    job = await enqueue_ingest(app.parts, app.owner(), "docs")
    claimed = await app.parts.jobs.claim("test", [KIND], lease_s=60, job=job.id)
    await run_ingest(app.parts, app.owner(), claimed, app.source_spec("docs"))


SCRIPT = [{"match": f"hall {n}", "reply": said(n)} for n in range(3)]


async def test_a_model_writes_questions_and_each_call_is_in_the_ledger(opened):
    async with open_app(opened(SCRIPT)) as app:
        await ingest(app)
        made = await make_questions(app.parts, app.owner(), "docs", count=3, model="scripted/m")
        assert len(made.questions) == 3
        assert made.thrown == {"refers_to_passage": 3}
        assert made.calls == len(await app.parts.cost.ledger(app.owner())) == 3
        assert made.spent.nano > 0
        for one in made.questions:
            (answer,) = one.answers
            text = await app.parts.knowledge.document_text(app.owner(), answer.document)
            assert text.text[answer.span.start : answer.span.end] == answer.quote
            assert (one.origin, one.model, one.state) == ("model", "scripted/m", "proposed")
        again = await make_questions(app.parts, app.owner(), "docs", count=3, model="scripted/m")
        assert (len(again.questions), again.thrown["duplicate"], again.stopped) == (0, 3, "passages")


async def test_a_run_ends_at_its_budget(opened):
    async with open_app(opened(SCRIPT)) as app:
        await ingest(app)
        made = await make_questions(app.parts, app.owner(), "docs", count=3, model="scripted/m", budget_usd=1e-7)
        assert (made.calls, len(made.questions), made.stopped) == (1, 1, "budget")


async def test_a_question_whose_passage_no_search_finds_is_thrown_away(opened):
    script = [{"reply": said(0, question="zzz qqq vvv www?")}]
    async with open_app(opened(script)) as app:
        await ingest(app)
        for number in range(20):
            own = " ".join(f"word{number}x{n}" for n in range(30))
            page = app.workspace.root / "documents" / f"x{number}.md"
            page.write_text(f"# Zzz {number}\n\nThe zzz qqq vvv www of {own}.\n")
        await ingest(app)
        made = await make_questions(app.parts, app.owner(), "docs", count=1, model="scripted/m")
        assert made.questions == []
        assert made.thrown["not_found"] >= 1


async def test_a_model_that_is_away_is_told(opened):
    async with open_app(opened([{"fail_status": 503}])) as app:
        await ingest(app)
        with pytest.raises(InterlockError):
            await make_questions(app.parts, app.owner(), "docs", count=3, model="scripted/m")
        assert await app.parts.knowledge.questions.of_collection(app.owner(), "docs") == []


@pytest.mark.parametrize("kind", ["document", "source", "subject"])
async def test_erasing_reaches_questions_and_the_certificate_counts_them(opened, kind):
    async with open_app(opened(SCRIPT)) as app:
        await ingest(app)
        ctx, questions = app.owner(), app.parts.knowledge.questions
        made = await make_questions(app.parts, ctx, "docs", count=3, model="scripted/m")
        assert len(made.questions) == 3
        first = next(one for one in made.questions if one.answers[0].source == "0.md")
        what = {
            "document": Erasure("document", first.answers[0].document),
            "source": Erasure("source", "birds", "docs"),
            "subject": Erasure("subject", "person0"),
        }[kind]
        certificate = await erase(app.parts, ctx, what)
        gone = 3 if kind == "source" else 1
        assert certificate.content["removed"]["questions"] == gone
        assert certificate.content["looked_at_again"]["questions"] == 0
        assert certificate.content["complete"]
        left = await questions.of_collection(ctx, "docs")
        assert len(left) == 3 - gone
        assert first.id not in {one.id for one in left}
