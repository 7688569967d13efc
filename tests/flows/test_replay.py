"""Past requests say whether a candidate is worse before anybody meets it, and the channel may ask for that."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from interlock.app import App, open_app
from interlock.cli.root import cli
from interlock.core.canonical import canonical_bytes, digest_bytes
from interlock.core.clock import now
from interlock.core.errors import Blocked, InvalidInput
from interlock.core.ids import AppName, ReleaseId
from interlock.flows.replay import Sample, replay
from interlock.releases.promotion import Evidence
from interlock.releases.rollouts.replaying import Met, Replayed, judge_replay
from interlock.releases.rollouts.types import Guardrail
from interlock.testing.workspaces import write_workspace

SCRIPT = [{"match_system": "terse", "match": "[37]$", "fail_status": 500}, {"reply": "It is {question}"}]
GUARDRAILS = [{"measure": "error", "margin": 0.1}]


@asynccontextmanager
async def workspace(folder: Path, *, script: list[dict[str, Any]] = SCRIPT, **app: Any) -> AsyncIterator[App]:
    write_workspace(
        folder,
        settings={
            "gateway": {
                "providers": {"scripted": {"kind": "scripted", "script": script}},
                "detect": False,
                "breaker": {"failures": 1000},
            }
        },
        apps={
            "helper": {
                "route": {"targets": ["scripted/m"], "retries": 0},
                "rollout": {"guardrails": GUARDRAILS},
                **app,
            }
        },
        prompt="Be kind.",
    )
    async with open_app(folder) as opened:
        yield opened


async def frozen(app: App, folder: Path, prompt: str) -> str:
    (folder / "apps" / "helper" / "prompt.md").write_text(prompt)
    return (await app.parts.releases.freeze(app.owner(), "helper")).id


def requests(folder: Path, count: int = 120, *, without: str = "", name: str = "past") -> Path:
    file = folder / f"{name}.jsonl"
    asked = [n for n in range(count) if not without or str(n)[-1] not in without]
    file.write_text("\n".join(json.dumps({"input": f"question {n}", "group": f"person-{n}"}) for n in asked))
    return file


@pytest.mark.anyio
async def test_a_worse_candidate_is_found_and_may_not_be_rolled_out(tmp_path: Path) -> None:
    async with workspace(tmp_path, channels={"prod": {"replay": True}}) as app:
        owner = app.owner()
        good = await frozen(app, tmp_path, "Be kind.")
        with pytest.raises(Blocked, match="replay: it was not run on this release"):
            await app.parts.releases.point(owner, "helper", "prod", good)
    async with workspace(tmp_path) as app:
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
    async with workspace(tmp_path, channels={"prod": {"replay": True}}) as app:
        bad, fine = [await frozen(app, tmp_path, prompt) for prompt in ("Be terse.", "Be calm.")]
        found, given = await replay(app.parts, app.owner(), "helper", bad, Sample(requests(tmp_path)))
        assert (found.verdict, found.requests, found.units) == ("fail", 120, 120)
        assert found.checks[0].harm == pytest.approx(0.2, abs=0.01)
        with pytest.raises(Blocked, match="replay: its gate says fail"):
            await app.parts.releases.start_rollout(app.owner(), "helper", "prod", bad)
        report = json.loads(await app.parts.releases.report(app.owner(), "helper", bad, given.digest))
        assert (report["control"], report["candidate"]) == (good, bad)
        ok, _ = await replay(app.parts, app.owner(), "helper", fine, Sample(requests(tmp_path)))
        assert ok.verdict == "pass"
        rollout = await app.parts.releases.start_rollout(app.owner(), "helper", "prod", fine)
        assert rollout.state == "canary"


PROD = {"prod": {"replay": True}}


async def told(app: App, release: str) -> tuple[str, str]:
    """How the demand of prod for a replay stands."""
    (asked,) = await app.parts.releases.demands(app.owner(), "helper", "prod", release)
    return asked.state, asked.why


@pytest.mark.anyio
async def test_a_replay_that_failed_is_not_undone_by_another_channel_or_by_other_requests(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        owner, releases = app.owner(), app.parts.releases
        good, as_bad, bad = [await frozen(app, tmp_path, each) for each in ("Be kind.", "Be so terse.", "Be terse.")]
        await releases.point(owner, "helper", "prod", good)
        await releases.point(owner, "helper", "stage", as_bad)
    async with workspace(tmp_path, channels=PROD) as app:
        owner = app.owner()
        elsewhere, _ = await replay(app.parts, owner, "helper", bad, Sample(requests(tmp_path)), channel="stage")
        assert elsewhere.verdict == "pass"
        assert (await told(app, bad))[0] == "open", "what was replayed for stage says nothing of prod"
        failed, given = await replay(app.parts, owner, "helper", bad, Sample(requests(tmp_path)))
        assert failed.verdict == "fail"
        assert {"channel": "prod", "control": good, "units": 120, "alpha": 0.05}.items() <= given.summary.items()
        assert given.summary["p"] == pytest.approx(failed.p) and str(given.summary["requests_digest"])[:7] == "sha256:"
        await replay(app.parts, owner, "helper", bad, Sample(requests(tmp_path)), channel="stage")
        assert (await told(app, bad))[0] == "failed"
        harmless = requests(tmp_path, 200, without="37", name="harmless")
        fine, _ = await replay(app.parts, owner, "helper", bad, Sample(harmless))
        assert fine.verdict == "pass"
        state, why = await told(app, bad)
        assert state == "failed" and "surely worse" in why and "asked its requests again" in why
        few, _ = await replay(app.parts, owner, "helper", bad, Sample(requests(tmp_path), most=10, seed=3))
        assert few.verdict == "not_enough_evidence"
        with pytest.raises(Blocked, match="replay: "):
            await app.parts.releases.start_rollout(owner, "helper", "prod", bad)


@pytest.mark.anyio
@pytest.mark.parametrize(("count", "name"), [(120, "past"), (160, "more")])
async def test_a_replay_that_asks_at_least_the_same_again_undoes_one_that_failed(
    tmp_path: Path, count: int, name: str
) -> None:
    async with workspace(tmp_path) as app:
        good, other, bad = [await frozen(app, tmp_path, each) for each in ("Be kind.", "Be nice.", "Be terse.")]
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
    async with workspace(tmp_path, channels=PROD) as app:
        await replay(app.parts, app.owner(), "helper", bad, Sample(requests(tmp_path)))
        await replay(app.parts, app.owner(), "helper", bad, Sample(requests(tmp_path, without="37", name="harmless")))
        assert (await told(app, bad))[0] == "failed"
    # What failed was the provider's doing, and that is mended.
    async with workspace(tmp_path, script=SCRIPT[1:], channels=PROD) as app:
        sample = Sample(requests(tmp_path, count, name=name), seed=11)
        again, _ = await replay(app.parts, app.owner(), "helper", bad, sample)
        assert again.verdict == "pass"
        assert (await told(app, bad))[0] == "met"
        await replay(app.parts, app.owner(), "helper", bad, Sample(requests(tmp_path, without="37", name="harmless")))
        assert (await told(app, bad))[0] == "met", "what was answered stays answered"
    async with workspace(tmp_path) as app:
        await app.parts.releases.point(app.owner(), "helper", "prod", other)
    async with workspace(tmp_path, channels=PROD) as app:
        state, why = await told(app, bad)
        assert state == "open" and "points at another release now" in why
    async with workspace(tmp_path) as app:
        await app.parts.releases.point(app.owner(), "helper", "prod", bad)
    async with workspace(tmp_path, channels=PROD) as app:
        assert (await told(app, bad))[0] == "met", "what is served was compared with what was served before it"


@pytest.mark.anyio
async def test_a_failed_replay_of_before_requests_were_kept_is_undone_by_the_same_file(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        good, calm = [await frozen(app, tmp_path, each) for each in ("Be kind.", "Be calm.")]
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
    async with workspace(tmp_path, channels=PROD) as app:
        file, owner = requests(tmp_path), app.owner()
        body = canonical_bytes({"requests": digest_bytes(file.read_bytes()), "control": good, "seed": 7})
        kept = Evidence(
            digest_bytes(body), AppName("helper"), ReleaseId(calm), "replay", "past", "fail", "dev", now(),
            summary={"control": good, "requests": 120, "units": 120},
        )  # fmt: skip
        await app.parts.releases.attach(owner, kept, body)
        await replay(app.parts, owner, "helper", calm, Sample(requests(tmp_path, 110, name="other")))
        assert (await told(app, calm))[0] == "failed"
        _, given = await replay(app.parts, owner, "helper", calm, Sample(file))
        assert given.summary["covers"] == kept.digest
        assert (await told(app, calm))[0] == "met"


@pytest.mark.anyio
async def test_too_few_requests_are_no_proof_and_say_how_many_are_missing(tmp_path: Path) -> None:
    async with workspace(tmp_path) as app:
        good, calm = [await frozen(app, tmp_path, prompt) for prompt in ("Be kind.", "Be calm.")]
        await app.parts.releases.point(app.owner(), "helper", "prod", good)
        few, _ = await replay(app.parts, app.owner(), "helper", calm, Sample(requests(tmp_path, 20)))
        assert (few.verdict, few.more_units > 0) == ("not_enough_evidence", True)
        sampled, _ = await replay(app.parts, app.owner(), "helper", calm, Sample(requests(tmp_path), most=15))
        assert sampled.units == 15
        with pytest.raises(InvalidInput, match="nothing to compare"):
            await replay(app.parts, app.owner(), "helper", good, Sample(requests(tmp_path)))


def test_the_command_says_what_is_wrong_with_its_file(tmp_path: Path) -> None:
    async def prepare() -> str:
        async with workspace(tmp_path) as app:
            good, calm = [await frozen(app, tmp_path, prompt) for prompt in ("Be kind.", "Be calm.")]
            await app.parts.releases.point(app.owner(), "helper", "prod", good)
            return calm

    import asyncio

    calm = asyncio.run(prepare())
    file = tmp_path / "broken.jsonl"
    command = ["-w", str(tmp_path), "rollout", "replay", calm, "--app", "helper", "--requests"]
    file.write_text('{"input": "a"}\n{"inptu": "b"}\n')
    refused = CliRunner().invoke(cli, [*command, str(file)])
    assert "broken.jsonl, line 2" in str(refused.exception)
    missing = CliRunner().invoke(cli, [*command, str(tmp_path / "none.jsonl")])
    assert "no content of live traffic is kept" in str(missing.exception)
    file.write_text("\n".join(json.dumps({"messages": [{"role": "user", "content": f"word {n}"}]}) for n in range(90)))
    done = CliRunner().invoke(cli, [*command, str(file), "-q"])
    assert done.exit_code == 0, done.output
    assert "replay: pass" in done.output
    told = json.loads(CliRunner().invoke(cli, [*command, str(file), "-q", "--json"]).output)
    assert (told["verdict"], told["units"]) == ("pass", 90) and told["p"] < 0.05 and told["digest"]


def met(error: float = 0.0, seconds: float = 0.0) -> Met:
    return Met(error=error, latency=seconds)


def test_requests_of_one_person_are_one_piece_of_evidence() -> None:
    guardrail = [Guardrail(measure="error", margin=0.1)]
    alone = [Replayed(f"u{n}", met(), met(float(n < 12))) for n in range(60)]
    assert judge_replay(guardrail, 0.05, alone).verdict == "fail"
    one_person = [Replayed("ann" if n < 12 else f"u{n}", met(), met(float(n < 12))) for n in range(60)]
    assert judge_replay(guardrail, 0.05, one_person).verdict != "fail"


def test_the_judgement_is_seldom_wrong() -> None:
    draw = random.Random(4)
    share = [Guardrail(measure="error", margin=0.05)]
    slow = [Guardrail(measure="latency", margin=0.2)]

    def runs(guardrail: list[Guardrail], harm: float, *, ratio: bool) -> list[str]:
        found = []
        for _ in range(120):
            seen = []
            for n in range(150):
                hard = draw.gauss(0, 0.5)
                pair = (
                    (met(seconds=hard), met(seconds=hard + harm + draw.gauss(0, 0.3)))
                    if ratio
                    else (met(float(draw.random() < 0.1)), met(float(draw.random() < 0.1 + harm)))
                )
                seen.append(Replayed(f"u{n}", *pair))
            found.append(judge_replay(guardrail, 0.05, seen).verdict)
        return found

    assert runs(share, 0.0, ratio=False).count("fail") <= 8
    assert runs(share, 0.05, ratio=False).count("pass") <= 8, "at the margin"
    assert runs(share, 0.25, ratio=False).count("fail") >= 100
    assert runs(slow, 0.0, ratio=True).count("fail") <= 12
    assert runs(slow, 0.0, ratio=True).count("pass") >= 100
    assert runs(slow, 0.1823, ratio=True).count("pass") <= 12, "20 % slower is the margin"
