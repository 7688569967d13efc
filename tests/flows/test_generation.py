"""Cases made from documents by rule or model: checked, put before people, and only then written to a suite."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
import yaml

from interlock.app import open_app
from interlock.core.errors import InvalidInput, NotFound
from interlock.evals.suite import read_suite
from interlock.evals.synthetic.curating import planted_suite, write_accepted
from interlock.flows.erasures import Erasure, erase
from interlock.flows.generation import Wanted, accepted_cases, collection_of, generate
from interlock.flows.ingest import KIND, enqueue_ingest, run_ingest
from interlock.testing.workspaces import write_workspace

pytestmark = pytest.mark.model
HALLS = {"amber": 3, "birch": 4, "cedar": 5}
HANDBOOK = {
    "returns.md": "# Returns\n\nA return is a thing that a customer sends back to the shop after delivery. "
    "Every customer may send unopened hardware back within 30 days of delivery.\n",
    "fees.md": "# Fees\n\nA deposit is a sum that the office holds until the machine comes back whole. "
    "The office keeps the deposit of a broken machine for at most 12 weeks after the report.\n",
    "travel.md": "# Travel\n\nA journey is any trip that the office has booked for somebody on its staff. "
    "Trains are booked by the office at least 14 days before the journey begins.\n",
}


def line(**fields):
    return json.dumps(fields)


def quote_of(hall):
    return f"The bird of hall {hall} sings for {HALLS[hall]} hours in the evening."


def script():
    """A model that does what it is asked; of one hall it knows the answer without the documents."""
    trial = line(question="What may heavy lorries not cross?", answer="the bridge", quote="It is 214 metres long")
    rules = [
        {"match": "Question: How long is the Quarrel", "reply": "214 metres"},
        {"match": "Question: Who built the Quarrel", "reply": "UNKNOWN"},
        {"match": r"(?s)Write \d questions that somebody.*Quarrel", "reply": trial},
        {"match": "(?s)what you know.*birch", "reply": "4 hours"},
        {"match": "what you know", "reply": "UNKNOWN"},
        {"match": r"(?s)number=2.*Question:.*longer music", "reply": "hall cedar"},
        {"match": r"Question:.*longer music", "reply": "UNKNOWN"},
        {"match": r"Question:.*paints", "reply": "UNKNOWN"},
    ]
    both = line(
        question="which place has the longer music?",
        answer="hall cedar",
        quote="Halls are open all year.",
        other_quote="Halls are open all year.",
    )
    rules += [
        {"match": "BOTH passages", "reply": both},
        {"match": "does NOT", "reply": line(question="who paints the ceilings?", answer="", quote="")},
    ]
    for hall, hours in HALLS.items():
        single = line(
            question=f"how long does the creature of {hall} make music?", answer=f"{hours} hours", quote=quote_of(hall)
        )
        talk = [
            line(question=f"what lives in {hall}?", answer="a bird", quote=f"The bird of hall {hall}"),
            line(question="and for how long does it do that?", answer=f"{hours} hours", quote=quote_of(hall)),
        ]
        rules += [
            {"match": rf"(?s)from the passages.*Question:.*{hall}", "reply": f"{hours} hours"},
            {"match": rf"(?s)Say the question.*{hall}", "reply": line(question=f"what span of song has {hall}?")},
            {
                "match": rf"(?s)Translate.*{hall}",
                "reply": line(question=f"Wie lange singt abends der Vogel in {hall}?"),
            },
            {"match": rf"(?s)^Play .*{hall}", "reply": "\n".join(talk)},
            {"match": rf"(?s)Write \d questions that somebody.*{hall}", "reply": single},
        ]
    return [*rules, {"reply": "I cannot help with that."}]


@pytest.fixture
def workspace(tmp_path, models_dir):
    def make(documents, rules=None):
        folder = write_workspace(
            tmp_path / "w",
            settings={
                "models_dir": str(models_dir),
                "gateway": {"providers": {"scripted": {"kind": "scripted", "script": rules or script()}}},
                "cost": {"prices": {"scripted/*": {"input_per_million": "1", "output_per_million": "2"}}},
            },
            apps={
                "helper": {"route": {"targets": ["scripted"]}, "knowledge": {"collection": "docs"}},
                "talker": {"route": {"targets": ["scripted"]}},
            },
            documents=documents,
        )
        spec = {
            "collection": "docs",
            "sources": [{"path": "../documents", "name": "files"}],
            "permissions": [{"match": "**", "readers": ["public"]}],
        }
        (folder / "knowledge" / "docs.yaml").write_text(yaml.safe_dump(spec))
        return folder

    return make


def halls():
    return {f"{hall}.md": f"# Hall {hall}\n\n{quote_of(hall)} Halls are open all year.\n" for hall in HALLS}


async def ingest(app):
    job = await enqueue_ingest(app.parts, app.owner(), "docs")
    claimed = await app.parts.jobs.claim("test", [KIND], lease_s=60, job=job.id)
    await run_ingest(app.parts, app.owner(), claimed, app.source_spec("docs"))


def wanted(app, **fields):
    suite = app.workspace.root / "handbook.suite.yaml"
    return Wanted(**{"collection": "docs", "suite": suite, "queue": "made", "count": 2, "languages": ("de",), **fields})


async def made_by(app, **fields):
    asked = wanted(app, **fields)
    return await generate(app.parts, app.owner(), asked, app.workspace.data / "generation")


async def items(app):
    return [each.item for each in await app.parts.reviews.items(app.owner(), "made")]


async def test_rules_make_what_rules_can_and_refuse_the_rest(workspace):
    async with open_app(workspace(HANDBOOK)) as app:
        await ingest(app)
        made = await made_by(app)
        sent = {kind: report.sent for kind, report in made.kinds.items()}
        assert sent["language"] == 0
        assert "needs a model" in made.kinds["language"].note
        assert all(sent[kind] == 2 for kind in ("single_hop", "multi_hop", "paraphrase", "typo", "contradiction")), sent
        assert sent["unanswerable"] and sent["conversation"], sent
        assert (made.calls, made.spent_nano) == (0, 0)
        found = {item.id: item for item in await items(app)}
        assert len(found) == sum(sent.values())
        for item in found.values():
            case = item.case
            assert case["provenance"]["kind"] == "synthetic"
            assert item.documents
            for place in case.get("evidence", []):
                document = next(
                    d for d in await app.parts.knowledge.documents(app.owner()) if d.source == place["source"]
                )
                text = await app.parts.knowledge.document_text(app.owner(), document.id)
                assert text.text[place["start"] : place["end"]] == place["quote"]
        (talk, *_) = [item for item in found.values() if item.id.startswith("conversation")]
        assert [turn["role"] for turn in talk.case["input"]] == ["user", "assistant", "user"]
        (torn, *_) = [item for item in found.values() if item.id.startswith("contradiction")]
        assert len(torn.case["facts"]) == len(torn.case["metadata"]["planted"]) == 2
        (gone, *_) = [item for item in found.values() if item.id.startswith("unanswerable")]
        quote = "30 days"
        assert gone.case["answerable"] is False
        assert quote not in gone.question


async def test_only_what_people_accepted_comes_into_the_suite(workspace):
    async with open_app(workspace(HANDBOOK)) as app:
        await ingest(app)
        await made_by(app)
        ctx, suite = app.owner(), app.workspace.root / "handbook.suite.yaml"
        _, holds, _ = await accepted_cases(app.parts, ctx, "made")
        assert write_accepted(holds, suite) == [] and not suite.exists()
        found = await items(app)
        yes = [item for item in found if item.id.startswith(("single_hop", "contradiction"))]
        for item in found:
            await app.parts.reviews.decide(ctx, "made", item.id, "accept" if item in yes else "reject")
        told, holds, stale = await accepted_cases(app.parts, ctx, "made")
        assert (len(told.items), told.waiting, stale) == (4, 0, 0)
        write_accepted(holds, suite)
        assert {case.slices["made"] for case in read_suite(suite).cases} == {"single_hop"}
        assert {case.slices["made"] for case in read_suite(planted_suite(suite)).cases} == {"contradiction"}
        again = write_accepted(holds, suite)
        assert [len(each.added) for each in again] == [0, 0], "accepted twice is added once"
        # What the suite asks already is not proposed again.
        more = await made_by(app, kinds=("single_hop",), queue="other", count=9)
        assert not {case.question for case in read_suite(suite).cases} & {
            each.item.question for each in await app.parts.reviews.items(ctx, "other")
        }
        assert more.kinds["single_hop"].thrown["duplicate"] >= 1


async def test_cases_of_documents_that_changed_are_left_out(workspace):
    async with open_app(workspace(HANDBOOK)) as app:
        await ingest(app)
        await made_by(app, kinds=("single_hop",), count=3)
        for item in await items(app):
            await app.parts.reviews.decide(app.owner(), "made", item.id, "accept")
        (app.workspace.root / "documents" / "fees.md").write_text("# Fees\n\nThere are no fees any more.\n")
        await ingest(app)
        _, holds, stale = await accepted_cases(app.parts, app.owner(), "made")
        assert stale == 1
        assert all("fees.md" not in case.relevant for case in holds)


async def test_a_model_that_passes_its_trials_writes_every_kind_and_its_work_is_checked(workspace):
    async with open_app(workspace(halls())) as app:
        await ingest(app)
        made = await made_by(app)
        assert made.calls == 0
    async with open_app(app.workspace.root) as app:
        made = await made_by(app, model="scripted/m", queue="written", fresh=True)
        assert made.model_note == ""
        sent = {kind: report.sent for kind, report in made.kinds.items()}
        told = {kind: (report.sent, dict(report.thrown)) for kind, report in made.kinds.items()}
        assert sent["single_hop"] == sent["paraphrase"] == sent["language"] == sent["conversation"] == 2, told
        assert sent["multi_hop"] == sent["unanswerable"] == 1, made
        assert made.kinds["single_hop"].thrown["known_without"] == 1, "it knows of birch without the documents"
        assert made.kinds["unanswerable"].thrown["duplicate"] == 2
        assert made.spent_nano > 0
        assert made.calls == len(await app.parts.cost.ledger(app.owner(), limit=500))
        cases = [each.item.case for each in await app.parts.reviews.items(app.owner(), "written")]
        assert {case["slices"]["language"] for case in cases if "language" in case["slices"]} == {"de"}
        (two,) = [case for case in cases if "multi_hop" in case["tags"]]
        assert len(two["evidence"]) == 2 and "two_documents" in two["tags"]


async def test_a_model_that_fails_its_trials_is_not_used(workspace):
    async with open_app(workspace(HANDBOOK, [{"reply": "Sure! Here are some questions."}])) as app:
        await ingest(app)
        made = await made_by(app, model="scripted/m")
        assert made.model_note == "it failed 3 of 3 trials: writes, reads, abstains"
        assert made.kinds["language"].note == made.model_note
        assert made.kinds["single_hop"].hand == "rule" and made.kinds["single_hop"].sent == 2
        assert made.calls == 3


async def test_a_run_ends_at_its_budget_and_going_on_spends_no_more(workspace):
    async with open_app(workspace(halls())) as app:
        await ingest(app)
        first = await made_by(app, model="scripted/m", budget_usd=0.0012)
        assert first.stopped == "budget"
        assert 0.0012 <= first.spent_nano / 1e9 < 0.0018
        again = await made_by(app, model="scripted/m", budget_usd=0.0012)
        assert (again.calls, again.stopped) == (first.calls, "budget")
        more = await made_by(app, model="scripted/m", budget_usd=1.0)
        assert more.calls > first.calls and more.taken_over > 0
        assert more.kinds["single_hop"].sent == 2


async def test_a_killed_run_goes_on_without_doubles(workspace):
    async with open_app(workspace(HANDBOOK)) as app:
        await ingest(app)
        whole = await made_by(app)
        before = {item.id for item in await items(app)}
        (file,) = (app.workspace.data / "generation").glob("*.jsonl")
        lines = file.read_bytes().splitlines(keepends=True)
        # It died after it had sent several cases, in the middle of a line.
        file.write_bytes(b"".join(lines[: len(lines) // 2]) + lines[-1][:10])
        again = await made_by(app)
        assert {k: r.sent for k, r in again.kinds.items()} == {k: r.sent for k, r in whole.kinds.items()}
        assert {item.id for item in await items(app)} == before
        assert again.taken_over == len(lines) // 2


@pytest.mark.timeout(180)
async def test_a_command_that_is_killed_goes_on_where_it_was_and_pays_nothing_twice(workspace):
    slow = [{**rule, "first_delay_s": 0.1} for rule in script()]
    root = workspace(halls(), slow)
    async with open_app(root) as app:
        await ingest(app)
    command = [sys.executable, "-m", "interlock", "-w", str(root), "eval", "generate", "docs", "--count", "2", "--json"]
    command += ["--suite", str(root / "handbook.suite.yaml"), "--queue", "made"]
    command += ["--model", "scripted/m", "--language", "de"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
    folder = root / ".interlock" / "evaluations" / "generation"
    for _ in range(600):
        await asyncio.sleep(0.05)
        if any(len(file.read_bytes().splitlines()) > 12 for file in folder.glob("*.jsonl")):
            break
    running.kill()
    running.wait()
    calls = sum(b"call_nano" in line for file in folder.glob("*.jsonl") for line in file.read_bytes().splitlines())
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: ASYNC221
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["taken_over"] > 0
    assert told["kinds"]["single_hop"]["sent"] == told["kinds"]["conversation"]["sent"] == 2
    async with open_app(root) as app:
        found = await items(app)
        assert len({(item.id.partition("-")[0], item.question) for item in found}) == len(found)
        ledger = await app.parts.cost.ledger(app.owner(), limit=500)
        # One call at most was under way when it was killed; what it had asked of the passage is asked again.
        assert calls >= 1 and told["calls"] - 1 <= len(ledger) <= told["calls"] + 1
    again = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: ASYNC221
    assert json.loads(again.stdout)["calls"] == told["calls"], "what is whole asks nothing more"


async def test_erasing_a_document_removes_the_cases_made_of_it(workspace):
    async with open_app(workspace(HANDBOOK)) as app:
        await ingest(app)
        await made_by(app)
        documents = await app.parts.knowledge.documents(app.owner(), collection="docs")
        target = next(each for each in documents if each.source == "fees.md")
        assert any(target.id in item.documents for item in await items(app))
        certificate = await erase(app.parts, app.owner(), Erasure("document", target.id))
        assert certificate.content["complete"] and certificate.content["removed"]["review_items"] >= 1
        left = json.dumps([item.model_dump(mode="json") for item in await items(app)])
        assert "deposit" not in left
        journal = next((app.workspace.data / "generation").glob("*.jsonl")).read_text()
        assert "deposit" not in journal


async def test_an_app_without_documents_and_a_wrong_name_are_told(workspace):
    async with open_app(workspace(HANDBOOK)) as app:
        names = list(app.collections())
        assert await collection_of(app.parts, app.owner(), "helper", names) == "docs"
        assert await collection_of(app.parts, app.owner(), "docs", names) == "docs"
        with pytest.raises(InvalidInput, match="answers from no documents"):
            await collection_of(app.parts, app.owner(), "talker", names)
        with pytest.raises(NotFound):
            await collection_of(app.parts, app.owner(), "nobody", names)
        with pytest.raises(NotFound):
            await made_by(app)
        for wrong, told in (
            ({"languages": ("deutsch",)}, "no language"),
            ({"count": 0}, "count"),
            ({"kinds": ()}, "kind"),
        ):
            with pytest.raises(InvalidInput, match=told):
                await made_by(app, **wrong)
