"""Releases are looked at, carried elsewhere, retired and gated, as people do it on the command line."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from interlock.testing.workspaces import write_workspace

from .commands import Run, runner

SCRIPT = [
    {"match_system": "rude", "reply": "no"},
    {"match_system": "wordy", "reply": "It is {question}, I should say"},
    {"reply": "It is {question}"},
]
GATE = {"rules": [{"metric": "exact", "at_least": 0.8}]}


def settings(**more: Any) -> dict[str, Any]:
    return {"gateway": {"providers": {"scripted": {"kind": "scripted", "script": SCRIPT}}, "detect": False}, **more}


def make(folder: Path, prompt: str = "Be kind.\nBe brief.\n", *, more: Any = None, **app: Any) -> Path:
    return write_workspace(
        folder,
        settings=settings(**(more or {})),
        apps={"helper": {"route": {"targets": ["scripted/m"]}, **app}},
        prompt=prompt,
    )


def write_suite(folder: Path, name: str = "kindness", gate: dict[str, Any] | None = None) -> None:
    cases = [{"id": f"c{n}", "input": f"word {n}", "expected": f"It is word {n}"} for n in range(40)]
    suite = {"suite": name, "cases": cases, "metrics": ["exact"], "gate": gate or GATE}
    place = folder / "apps" / "helper" / "evals" / f"{name}.yaml"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(suite))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def freeze(run: Run, at: Path, prompt: str | None = None, *more: str) -> str:
    if prompt is not None:
        (at / "apps" / "helper" / "prompt.md").write_text(prompt)
    return str(run(at, "release", "build", "--app", "helper", "--json", *more).json["id"])


def test_a_release_is_shown_with_what_it_is_made_of_and_where_it_served(tmp_path: Path, run: Run) -> None:
    make(tmp_path, channels={"prod": {"sign_off": {"roles": ["risk"], "separate": False}}})
    first = freeze(run, tmp_path)
    refused = run(tmp_path, "release", "point", first, "--app", "helper", "--channel", "prod")
    assert (refused.code, "sign-off by risk: 0 of 1" in refused.err) == (4, True)
    assert "release sign RELEASE --app helper --role risk" in refused.err
    signed = run(tmp_path, "release", "sign", first, "--app", "helper", "--role", "risk", "--note", "read it", "--json")
    assert (signed.json["verdict"], signed.json["note"]) == ("approved", "read it")
    moved = run(tmp_path, "release", "point", first, "--app", "helper", "--channel", "prod", "--reason", "we launch")
    assert moved.code == 0
    told = run(tmp_path, "release", "show", first, "--app", "helper", "--json").json
    assert told["values"]["prompt"]["system"] == "Be kind.\nBe brief."
    assert told["channels"] == ["prod"]
    assert [(each["kind"], each["name"], each["verdict"]) for each in told["evidence"]] == [
        ("sign_off", "risk", "approved")
    ]
    assert [(each["channel"], each["reason"]) for each in told["moves"]] == [("prod", "we launch")]
    assert [each["state"] for each in told["demands"]["prod"]] == ["met"]
    history = run(tmp_path, "release", "history", "--app", "helper", "--channel", "prod", "--json").json
    assert [(each["release"], each["by"], each["reason"]) for each in history] == [(first, "local", "we launch")]
    evidence = run(tmp_path, "release", "evidence", "prod", "--app", "helper", "--json").json
    assert evidence == told["evidence"]
    shown = run(tmp_path, "release", "show", first[7:15], "--app", "helper").out
    assert "serves prod" in shown
    assert "we launch" in shown


def test_a_rejection_needs_a_note_and_keeps_the_channel_shut(tmp_path: Path, run: Run) -> None:
    make(tmp_path, channels={"prod": {"sign_off": {"roles": ["risk"], "separate": False}}})
    first = freeze(run, tmp_path)
    sign = ("release", "sign", first, "--app", "helper", "--role", "risk")
    assert "say why it is rejected" in run(tmp_path, *sign, "--reject").err
    assert run(tmp_path, *sign, "--reject", "--note", "it promises refunds").code == 0
    gate = run(tmp_path, "gate", "--app", "helper", "--release", first, "--json")
    assert (gate.code, gate.json["verdict"], gate.json["demands"][0]["state"]) == (5, "fail", "failed")


def test_two_releases_differ_in_the_lines_and_fields_that_differ(tmp_path: Path, run: Run) -> None:
    make(tmp_path)
    first = freeze(run, tmp_path, None, "--channel", "prod")
    (tmp_path / "apps" / "helper" / "prompt.md").write_text("Be kind.\nBe wordy.\n")
    app = tmp_path / "apps" / "helper" / "app.yaml"
    app.write_text(app.read_text() + "guardrails: {rules: [{id: s, detector: secrets, at: [input], action: block}]}\n")
    told = run(tmp_path, "release", "diff", "prod", "live", "--app", "helper", "--json").json
    states = {each["kind"]: each["state"] for each in told["components"]}
    assert states == {"prompt": "changed", "guardrails": "changed", "route": "same", "models": "same"}
    changes = {each["kind"]: each["changes"] for each in told["components"]}
    assert [(each["path"], each["text"][1:]) for each in changes["prompt"]] == [
        ("system", [" Be kind.", "-Be brief.", "+Be wordy."])
    ]
    added = {each["path"]: each["after"] for each in changes["guardrails"] if each["kind"] == "added"}
    assert added["rules.0.detector"] == "secrets"
    assert added["rules.0.at.0"] == "input"
    printed = run(tmp_path, "release", "diff", first, "live", "--app", "helper").out
    assert "-Be brief." in printed
    assert '+ rules.0.detector: "secrets"' in printed
    assert "the same release" in run(tmp_path, "release", "diff", "prod", first, "--app", "helper").out
    unknown = run(tmp_path, "release", "diff", "stage", "--app", "helper")
    assert (unknown.code, "points at no release" in unknown.err) == (3, True)


def blob(at: Path, digest: str) -> Path:
    plain = digest.removeprefix("sha256:")
    return next(
        each for each in (at / ".interlock" / "blobs").rglob("*") if each.is_file() and plain.endswith(each.name[-32:])
    )


def test_damage_is_found_and_named(tmp_path: Path, run: Run) -> None:
    make(tmp_path)
    first = freeze(run, tmp_path)
    digests = run(tmp_path, "release", "show", first, "--app", "helper", "--json").json["components"]
    whole = run(tmp_path, "release", "verify", first, "--app", "helper", "--json")
    assert (whole.code, whole.json) == (0, {"release": first, "whole": True, "damaged": []})
    changed, gone = blob(tmp_path, digests["prompt"]), blob(tmp_path, digests["route"])
    changed.chmod(0o600)
    changed.write_bytes(changed.read_bytes().replace(b"kind", b"mean"))
    gone.unlink()
    found = run(tmp_path, "release", "verify", first, "--app", "helper", "--json")
    assert found.code == 1
    assert [(each["what"], each["why"]) for each in found.json["damaged"]] == [
        ("prompt", "changed"),
        ("route", "missing"),
    ]
    assert "release import" in run(tmp_path, "release", "verify", first, "--app", "helper").out


def test_a_release_is_carried_to_another_installation_that_trusts_the_first(tmp_path: Path, run: Run) -> None:
    at, other = make(tmp_path / "here"), make(tmp_path / "there", "Something else.")
    write_suite(at)
    first = freeze(run, at)
    assert run(at, "gate", "--app", "helper", "--run", "-q").code == 0
    run(at, "release", "sign", first, "--app", "helper", "--role", "risk")
    file = tmp_path / "helper.json"
    key = run(at, "release", "export", first, "--app", "helper", "-o", file, "--json").json["public_key"]
    assert "File exists" in run(at, "release", "export", first, "--app", "helper", "-o", file).err
    stranger = run(other, "release", "import", file)
    assert (stranger.code, "not trusted here" in stranger.err, "releases.trusted_keys" in stranger.err) == (
        1,
        True,
        True,
    )
    assert run(other, "release", "list", "--app", "helper", "--json").json == []
    done = run(other, "release", "import", file, "--public-key", key, "--json").json
    assert done == {
        "release": first,
        "app": "helper",
        "public_key": key,
        "evidence": ["kindness"],
        "left_out": ["approved by local (risk)"],
    }
    assert run(other, "release", "verify", first, "--app", "helper").code == 0
    again = run(other, "--set", f"releases.trusted_keys=[{key}]", "release", "import", file)
    assert again.code == 0
    evidence = run(other, "release", "evidence", first, "--app", "helper", "--json").json
    assert [(each["kind"], each["verdict"]) for each in evidence] == [("evaluation", "pass")], "once, not twice"
    assert run(other, "ask", "tea", "--release", f"helper:{first}", "--json").json["release"] == first
    lines = run(other, "audit", "list", "--action", "release.import", "--json").json
    assert {line["details"]["signer"] for line in lines} == {key}


@pytest.mark.parametrize("fault", ["payload", "unsigned", "signature", "statement"])
def test_a_bundle_that_was_tampered_with_is_refused(tmp_path: Path, run: Run, fault: str) -> None:
    at = make(tmp_path / "here")
    first = freeze(run, at)
    file = tmp_path / "helper.json"
    run(at, "release", "export", first, "--app", "helper", "-o", file)
    envelope = json.loads(file.read_text())
    payload = base64.b64decode(envelope["payload"])
    if fault == "payload":
        envelope["payload"] = base64.b64encode(payload.replace(b"Be kind", b"Be mean")).decode()
    elif fault == "unsigned":
        envelope["signatures"] = []
    elif fault == "signature":
        envelope["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    else:
        envelope = {"payload": envelope["payload"]}
    file.write_text(json.dumps(envelope))
    refused = run(at, "release", "import", file)
    said = {"payload": "was changed after", "unsigned": "not signed", "signature": "was changed after"}
    assert refused.code == 1
    assert said.get(fault, "no signed envelope") in refused.err


def test_a_retired_release_is_pointed_at_by_nobody(tmp_path: Path, run: Run) -> None:
    make(tmp_path)
    old = freeze(run, tmp_path, None, "--channel", "prod")
    new = freeze(run, tmp_path, "Be wordy.")
    retire = ("release", "retire", old, "--app", "helper", "--reason", "it leaks")
    serving = run(tmp_path, *retire)
    assert (serving.code, "helper@prod points at this release" in serving.err) == (1, True)
    rollout = run(tmp_path, "rollout", "start", new, "--app", "helper", "--json").json["id"]
    under = run(tmp_path, "release", "retire", new, "--app", "helper", "--reason", "it leaks")
    assert f"interlock rollout abort {rollout}" in under.err
    run(tmp_path, "rollout", "promote", rollout, "--reason", "we are sure")
    done = run(tmp_path, *retire, "--json")
    assert done.json["retired"]["reason"] == "it leaks"
    for command in (("release", "point", old, "--channel", "prod"), ("rollout", "start", old)):
        refused = run(tmp_path, *command, "--app", "helper")
        assert (refused.code, "is retired" in refused.err) == (1, True), "also the way back is shut"
    assert "release reinstate" in refused.err
    history = run(tmp_path, "release", "history", "--app", "helper", "--json").json
    assert [(each["release"], each["reason"]) for each in history] == [(new, "we are sure"), (old, "")]
    assert run(tmp_path, "release", "reinstate", old, "--app", "helper", "--reason", "it was another").code == 0
    assert run(tmp_path, "release", "point", old, "--app", "helper", "--channel", "prod").code == 0
    actions = [line["action"] for line in run(tmp_path, "audit", "list", "--json").json]
    assert {"release.retire", "release.reinstate"} <= set(actions)


def test_the_gate_says_what_is_missing_runs_it_and_tells_a_pull_request(tmp_path: Path, run: Run) -> None:
    make(tmp_path, channels={"prod": {"evaluations": ["kindness"]}})
    # What compares is left out as long as prod points nowhere.
    write_suite(tmp_path, gate={"rules": [*GATE["rules"], {"metric": "exact", "margin": 0.2}]})
    open_ = run(tmp_path, "gate", "--app", "helper")
    assert open_.code == 6
    assert "it was not run on this release" in open_.out
    assert "next: interlock gate --app helper --run" in open_.out
    table = tmp_path / "gate.md"
    passed = run(tmp_path, "gate", "--app", "helper", "--run", "--markdown", table, "--json")
    assert (passed.code, passed.json["verdict"], passed.json["live"]) == (0, "pass", True)
    assert "| evaluation 'kindness' | ✅ met |" in table.read_text()
    assert "| exact | 1.000 |" in table.read_text()
    # The files are frozen as exactly what was tested, and their evidence goes with them.
    assert freeze(run, tmp_path, None, "--channel", "prod") == passed.json["release"]
    (tmp_path / "apps" / "helper" / "prompt.md").write_text("Be rude.")
    failed = run(tmp_path, "gate", "--app", "helper", "--run", "--markdown", table, "--json")
    assert (failed.code, failed.json["demands"][0]["state"]) == (5, "failed")
    assert failed.json["demands"][0]["hint"] == f"interlock eval show {failed.json['runs'][0]['id']}"
    assert "❌ fail" in table.read_text()
    assert run(tmp_path, "gate", "--app", "helper").code == 5, "the evidence stays"
    assert run(tmp_path, "gate", "--app", "helper", "--release", "prod").code == 0
    old = freeze(run, tmp_path, "Be quick.")
    (tmp_path / "apps" / "helper" / "prompt.md").write_text("Be slow.")
    missing = run(tmp_path, "gate", "--app", "helper", "--release", old)
    assert f"next: interlock gate --app helper --release {old[7:15]} --run" in missing.out


def test_suites_that_compare_are_compared_with_what_the_channel_serves(tmp_path: Path, run: Run) -> None:
    make(tmp_path, "Be wordy.", channels={"prod": {"evaluations": ["kindness"]}})
    write_suite(tmp_path, gate={"rules": [{"metric": "exact", "improves": True}]})
    alone = run(tmp_path, "gate", "--app", "helper", "--run", "-q")
    assert "only compares" in alone.err
    assert "at_least: 0.8" in alone.err
    app = tmp_path / "apps" / "helper" / "app.yaml"
    asked = app.read_text()
    app.write_text(asked.replace("kindness", "nothing-of-the-kind"))
    missing = run(tmp_path, "gate", "--app", "helper", "--run", "-q")
    assert (missing.code, "apps/helper/evals/nothing-of-the-kind.yaml" in missing.err) == (3, True)
    app.write_text("route: {targets: [scripted/m]}\n")
    worse = freeze(run, tmp_path, None, "--channel", "prod")
    app.write_text(asked)
    (tmp_path / "apps" / "helper" / "prompt.md").write_text("Be kind.")
    better = run(tmp_path, "gate", "--app", "helper", "--run", "-q", "--json")
    assert better.code == 0
    runs = run(tmp_path, "eval", "list", "--json").json
    baseline = better.json["runs"][0]["baseline"]
    assert [(each["note"], each["target"]) for each in runs if each["id"] == baseline] == [
        ("baseline of kindness", f"release:helper:{worse}")
    ]
    again = run(tmp_path, "gate", "--app", "helper", "--run", "-q", "--json")
    assert again.json["runs"][0]["baseline"] == baseline, "the newest run of what serves is taken, not made again"


def test_without_a_policy_every_suite_of_the_app_with_a_gate_decides(tmp_path: Path, run: Run) -> None:
    make(tmp_path, "Be rude.")
    write_suite(tmp_path)
    nothing = run(tmp_path, "gate", "--app", "helper")
    assert (nothing.code, "asks for nothing" in nothing.out) == (0, True)
    assert run(tmp_path, "gate", "--app", "helper", "--run", "-q").code == 5


def test_a_channel_that_moves_only_by_rollouts_may_be_pointed_a_first_time(tmp_path: Path, run: Run) -> None:
    make(tmp_path, channels={"prod": {"rollout": True}})
    assert freeze(run, tmp_path, None, "--channel", "prod")
    second = freeze(run, tmp_path, "Be wordy.")
    refused = run(tmp_path, "release", "point", second, "--app", "helper", "--channel", "prod")
    assert (refused.code, "moves to a new release only by one" in refused.err) == (4, True)
    assert run(tmp_path, "rollout", "start", second, "--app", "helper").code == 0
