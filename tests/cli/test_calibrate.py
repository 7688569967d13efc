"""`interlock knowledge calibrate` and `interlock ask --explain`."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.app import open_app
from interlock.cli import main
from interlock.cli.knowledge import ingest_collection
from interlock.core.errors import InvalidInput
from interlock.flows.abstention import Assessed, propose
from interlock.testing.workspaces import write_workspace

REPLY = "Customers may return hardware within 90 days of delivery [1]."
SUBJECTS = (
    "warranty",
    "deposit",
    "discount",
    "invoice",
    "insurance",
    "pension",
    "parking",
    "canteen",
    "holiday",
    "visa",
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, models_dir):
    folder = write_workspace(
        tmp_path_factory.mktemp("calibrate") / "workspace",
        settings={
            "models_dir": str(models_dir),
            "knowledge": {"reader": "none"},
            "gateway": {"detect": False, "providers": {"s": {"kind": "scripted", "script": [{"reply": REPLY}]}}},
        },
        apps={
            "helper": {
                "route": {"targets": ["s"]},
                "knowledge": {"collection": "docs"},
                "answer": {"strategy": "passages", "unsupported": "flag", "min_answerability": 0},
            },
            "talker": {"route": {"targets": ["s"]}},
        },
        documents={
            "returns.md": "# Returns\n\nCustomers may return hardware within 30 days of delivery.\n",
            "fees.md": "# Fees\n\nThe restocking fee is 10 percent of the price.\n",
        },
    )

    async def ingest():
        async with open_app(folder) as app:
            await ingest_collection(app, "docs", quiet=True)

    asyncio.run(ingest())
    lines = [
        {"question": f"How long does the {subject} of an employee last?", "answerable": False} for subject in SUBJECTS
    ]
    lines += [
        {"question": "Within how many days may customers return hardware?", "answerable": True},
        {"question": "What percentage is the restocking fee?", "answerable": True, "kind": "single"},
    ]
    (folder / "labelled.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (folder / "broken.jsonl").write_text('{"question": "yes"}\n')
    return folder


@pytest.fixture
def run(workspace, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["interlock", "-w", str(workspace), *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


@pytest.mark.model
def test_a_threshold_is_proposed_with_its_intervals_and_nothing_is_changed(run, workspace):
    before = (workspace / "apps/helper/app.yaml").read_text()
    code, out, _ = run(
        "knowledge", "calibrate", "helper", workspace / "labelled.jsonl", "--false-answers", "0.1", "--json"
    )
    told = json.loads(out)
    assert code == 0
    value = told["min_answerability"]["value"]
    assert told["settings"] == {"answer": {"min_answerability": value}}
    assert told["false_answers"]["of"] == 10
    assert told["false_answers"]["value"] <= 0.1
    assert (
        told["false_answers"]["interval"][0] <= told["false_answers"]["value"] <= told["false_answers"]["interval"][1]
    )
    assert told["min_answerability"]["interval"][0] <= value <= told["min_answerability"]["interval"][1]
    assert told["answered"]["value"] == 1.0
    assert told["now"] == {"min_answerability": 0.0, "false_answers": 1.0, "answered": 1.0}
    assert (workspace / "apps/helper/app.yaml").read_text() == before
    code, out, _ = run("knowledge", "calibrate", "helper", workspace / "labelled.jsonl")
    assert code == 0
    assert f"min_answerability: {value:g}" in out


@pytest.mark.model
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("helper", "labelled.jsonl", "--false-answers", "0.01"), "at least 99 unanswerable questions"),
        (("helper", "broken.jsonl"), "line 1 of 'broken.jsonl' is no labelled question"),
        (("talker", "labelled.jsonl"), "has no documents to answer from"),
    ],
)
def test_what_cannot_be_promised_is_refused_with_what_to_do(run, workspace, arguments, words):
    app, file, *rest = arguments
    code, _, err = run("knowledge", "calibrate", app, workspace / file, *rest)
    assert code != 0
    assert words in err


@pytest.mark.model
def test_an_answer_explains_which_claim_rests_on_what(run):
    code, out, _ = run("ask", "Within how many days may hardware be returned?", "--app", "helper", "--explain")
    assert code == 0
    assert "refused: number" in out
    assert "returns.md" in out
    _, out, _ = run("ask", "Within how many days may hardware be returned?", "--app", "helper", "--json")
    claims = [claim for claim in json.loads(out)["support_map"] if claim["support"] == "unsupported"]
    assert claims[0]["evidence"]["quote"] == "Customers may return hardware within 30 days of delivery."


PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@given(PROBABILITIES, PROBABILITIES, st.sampled_from([0.05, 0.1, 0.2, 0.5]))
@settings(max_examples=200, deadline=None)
def test_no_more_than_the_share_asked_for_is_answered_wrongly(against, fitting, rate):
    found = [Assessed(False, p) for p in against] + [Assessed(True, p) for p in fitting]
    try:
        told = propose(found, rate=rate, now=0.4)
    except InvalidInput:
        assert len(against) < 1 / rate - 1 + 1e-6
        return
    # A probability of exactly 1 cannot be declined by any threshold.
    sure = sum(p >= 1 for p in against) / len(against)
    assert told.false_answers <= max(rate, sure)
    assert 0 <= told.interval.low <= told.value <= told.interval.high <= 1
    assert told.false_interval.low <= told.false_answers <= told.false_interval.high


@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.25]))
@settings(max_examples=20, deadline=None)
def test_the_promise_holds_on_average_for_new_questions(seed, rate):
    import random

    draw = random.Random(seed)
    shares = []
    for _ in range(60):
        found = [Assessed(False, draw.betavariate(2, 5)) for _ in range(30)] + [Assessed(True, 0.9)]
        value = propose(found, rate=rate, now=0.4).value
        shares.append(sum(draw.betavariate(2, 5) >= value for _ in range(100)) / 100)
    assert sum(shares) / len(shares) <= rate + 0.04
