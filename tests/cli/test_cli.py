"""The command line as people and scripts meet it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from datetime import datetime

import click
import pytest

from interlock.app import open_app
from interlock.cli import main
from interlock.cli.root import cli
from interlock.stores.sql import open_sql
from interlock.templates import templates
from interlock.testing.workspaces import write_workspace

DOCUMENTS = {
    "returns.md": "# Returns\n\nCustomers may return hardware within 30 days of delivery. "
    "The restocking fee is 10 percent of the price.\n",
    "pay/bands.md": "# Salary bands\n\nThe salary band of a senior engineer in Leeds is 61,000 to 78,000 pounds.\n",
}
SCRIPT = [
    {"match": "salary", "reply": "The salary band of a senior engineer in Leeds is 61,000 to 78,000 pounds [1]."},
    {"reply": "Customers may return hardware within 30 days of delivery [1]."},
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, models_dir):
    return make_workspace(tmp_path_factory.mktemp("cli") / "workspace", models_dir)


def make_workspace(folder, models_dir):
    return write_workspace(
        folder,
        settings={
            "models_dir": str(models_dir),
            "gateway": {
                "providers": {
                    "scripted": {"kind": "scripted", "script": SCRIPT},
                    "extractive": {"kind": "extractive"},
                }
            },
        },
        apps={
            "helper": {
                "route": {"targets": ["scripted"]},
                "knowledge": {"collection": "docs"},
                "guardrails": {"rules": [{"id": "s", "detector": "secrets", "at": ["input"], "action": "block"}]},
            }
        },
        documents=DOCUMENTS,
        permissions=[{"match": "pay/**", "readers": ["group:finance"]}, {"match": "**", "readers": ["public"]}],
        users={"ada": [], "fay": ["finance"]},
    )  # fmt: skip


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def run(workspace, monkeypatch, capsys):
    """Run a command in this process, as the console script does."""

    def call(*arguments, at=None):
        monkeypatch.setattr(sys, "argv", ["interlock", "-w", str(at or workspace), *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out = capsys.readouterr()
        return Result(code, out.out, out.err)

    return call


def leaves(command=cli, path=()):
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from leaves(found, (*path, name))
    else:
        yield path, command


LEAVES = dict(leaves())


def test_help_lists_every_command(run):
    shown = run("--help")
    assert shown.code == 0
    for name in cli.list_commands(click.Context(cli)):
        assert f"\n  {name} " in shown.out
    assert "interlock init" in shown.out


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_explains_itself_and_speaks_json(run, path):
    shown = run(*path, "--help")
    assert shown.code == 0
    assert LEAVES[path].help
    assert shown.out.startswith("Usage:")
    # One prints a shell's script, the other speaks a protocol.
    if path not in {("completion",), ("mcp",)}:
        assert "--json" in shown.out


@pytest.mark.model
def test_a_workspace_from_ingest_to_audit(run, tmp_path, models_dir):
    place = make_workspace(tmp_path / "w", models_dir)

    def data(*arguments):
        result = run(*arguments, "--json", at=place)
        assert result.code == 0, result.err
        return result.json

    (report,) = data("ingest")
    assert (report["added"], report["failed"]) == (2, [])
    assert data("ingest", "docs")[0]["unchanged"] == 2
    assert {row["source"] for row in data("documents")} == {"returns.md", "pay/bands.md"}
    assert {row["source"] for row in data("documents", "--as", "ada")} == {"returns.md"}
    answer = data("ask", "How long may customers return hardware?", "--as", "ada")
    assert "30 days" in answer["answer"]
    assert answer["citations"][0]["source"] == "returns.md"
    assert data("ask", "What is the salary band of a senior engineer in Leeds?")["outcome"] == "declined"
    assert "61,000" in data("ask", "What is the salary band of a senior engineer in Leeds?", "--as", "fay")["answer"]
    assert data("apps")[0]["model"] == "app/helper"
    built = data("release", "build", "--app", "helper", "--channel", "prod", "--note", "first")
    listed = data("release", "list", "--app", "helper")[0]
    assert (listed["id"], listed["note"], listed["channels"]) == (built["id"], "first", ["prod"])
    assert data("release", "point", built["id"][7:20], "--app", "helper", "--channel", "stage")["channel"] == "stage"
    traces = data("traces", "--app", "helper")
    assert traces[0]["trace_id"]
    assert data("traces", answer["trace_id"][:12])[0]["trace_id"] == answer["trace_id"]
    for by in ("app", "model", "provider", "principal", "end_user"):
        assert data("cost", "--by", by)
    key = data("keys", "create", "shop", "--role", "viewer", "--days", "1")
    assert data("keys", "list")[0]["prefix"] == key["prefix"]
    assert data("keys", "revoke", key["prefix"])["state"] == "revoked"
    assert data("token", "mint", "--user", "fay")["token"].count(".") == 2
    assert data("accounts", "create", "olga", "--password", "a long enough word")["username"] == "olga"
    assert data("accounts", "list")[0]["username"] == "olga"
    assert data("accounts", "password", "olga", "--password", "another long word")["changed"]
    lines = data("audit", "list", "--limit", "1000")
    assert {"chat.answer", "key.create", "key.revoke", "release.freeze", "channel.point"} <= {
        x["action"] for x in lines
    }
    head = data("audit", "head")
    assert data("audit", "verify", "--head", f"{head['size']}:{head['root']}")["ok"]
    assert data("audit", "prove", "0")["leaf"]
    assert any(row["name"] == "server.port" for row in data("config", "show"))
    shown = {row["name"] for row in data("config", "show", "stores.")}
    assert {"stores.sql", "stores.index", "stores.kv", "stores.blobs"} <= shown
    assert all(name.startswith("stores.") for name in shown)
    assert data("version")["schema"]
    assert all(row["installed"] for row in data("models", "list"))
    assert data("models", "verify", "minilm-l6-int8")["ok"]
    assert not [row for row in data("doctor") if row["state"] == "fail"]


@pytest.mark.model
def test_what_people_read_is_no_json_and_no_traceback(run):
    run("ingest")
    for command in (
        ("ask", "How long may customers return hardware?"),
        ("ask", "How long may customers return hardware?", "--stream"),
        ("apps",), ("documents",), ("traces",), ("cost",), ("audit", "list"), ("audit", "head"), ("audit", "verify"),
        ("keys", "list"), ("accounts", "list"), ("config", "show"), ("version",), ("models", "list"), ("doctor",),
        ("release", "list", "--app", "helper"),
    ):  # fmt: skip
        shown = run(*command)
        assert shown.code == 0, (command, shown.err)
        assert shown.out.strip()
        assert "Traceback" not in shown.err
    assert "characters" in run("ask", "How long may customers return hardware?").out


@pytest.mark.model
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ask", "hi", "--app", "nobody"), 3, "helper"),
        (("ask", "hi", "--as", "nobody"), 3, "ada, fay"),
        (("ask", "My key is ghp_" + "a" * 40), 4, "rephrase"),
        (("ask", "   "), 1, "no question"),
        (("ingest", "nothing"), 3, "docs"),
        (("traces", "0123456789"), 3, "interlock traces"),
        (("keys", "revoke", "il_nothing"), 3, "interlock keys list"),
        (("keys", "create", "x", "--days", "-1"), 1, "3,650"),
        (("token", "mint", "--user", "x", "--minutes", "600"), 1, "900"),
        (("accounts", "create", "bo", "--password", "short"), 1, "10 to 1,024"),
        (("release", "build", "--app", "nobody"), 3, "helper"),
        (("release", "point", "sha256:00000000", "--app", "helper", "--channel", "prod"), 3, "release list"),
        (("models", "fetch", "minilm"), 3, "minilm-l6-int8"),
        (("models", "verify", "nothing"), 3, "models list"),
        (("audit", "prove", "999999"), 3, "999999"),
        (("--set", "server.port=high", "config", "show"), 1, "server.port"),
        (("--set", "sever.port=1", "config", "show"), 1, "sever"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_failure_says_what_to_do_and_leaves_with_its_code(run, arguments, code, words, as_json):
    run("keys", "create", "somebody")  # so that the audit log has a line
    result = run(*arguments, *(["--json"] if as_json else []))
    assert result.code == code, result.err
    if as_json:
        error = result.json["error"]
        assert error["code"]
        assert words in f"{error['message']} {error['hint']}"
    else:
        assert result.out == ""
        assert result.err.lstrip().startswith("error: ")
        assert words in result.err


@pytest.mark.parametrize(
    "arguments",
    [("nothing",), ("ask",), ("--set", "novalue", "version"), ("--set", "a=[", "version"),
     ("--set", "a=1", "--set", "a.b=2", "version"), ("audit", "verify", "--head", "x"), ("cost", "--by", "secret"),
     ("keys", "create", "x", "--role", "king"), ("traces", "--limit", "0"), ("up", "--port", "99999"),
     ("release", "point", "x", "--app", "helper", "--channel", "dev")],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_leaves_with_2(run, arguments):
    result = run(*arguments)
    assert result.code == 2
    assert "Usage:" in result.err or "Error:" in result.err


def test_outside_a_workspace_the_way_in_is_named(run, tmp_path):
    for command in (("ask", "hi"), ("ingest",), ("up",), ("keys", "list"), ("config", "show")):
        result = run(*command, at=tmp_path)
        assert result.code == 3
        assert "interlock init" in result.err
    assert run("version", "--json", at=tmp_path).json["schema"] is None
    assert run("doctor", "--json", at=tmp_path).code == 1
    assert run("models", "list", "--json", at=tmp_path).code == 0


@pytest.mark.model
def test_doctor_leaves_with_1_when_something_is_broken_and_names_the_mend(run, tmp_path, monkeypatch):
    monkeypatch.delenv("INTERLOCK_MODELS_DIR", raising=False)
    place = write_workspace(
        tmp_path / "w",
        settings={"models_dir": str(tmp_path / "no-models"), "gateway": {"providers": {
            "openai": {"kind": "openai", "api_key_env": "NO_SUCH_KEY_ANYWHERE"}}}},
        apps={"bad": {"route": {"targets": []}}, "lost": {"route": {"targets": ["nobody/x"]}}},
        documents={"a.md": "# A\n\nText.\n"},
    )  # fmt: skip
    result = run("doctor", "--json", at=place)
    assert result.code == 1
    findings = {row["what"]: row for row in result.json}
    assert findings["model minilm-l6-int8"]["fix"] == "interlock models fetch minilm-l6-int8"
    assert findings["app bad"]["state"] == "fail"
    assert "route.targets" in findings["app bad"]["cause"]
    assert "nobody/x" in findings["app lost"]["cause"]
    assert findings["provider openai"]["fix"] == "export NO_SUCH_KEY_ANYWHERE=…"
    assert findings["collection docs"]["fix"] == "interlock ingest docs"
    key = place / ".interlock" / "master.key"
    run("token", "mint", "--user", "x", at=place)
    key.chmod(0o644)
    assert any(
        row["what"] == "key files" and "chmod 600" in row["fix"] for row in run("doctor", "--json", at=place).json
    )


@pytest.mark.parametrize("model", ["", "../elsewhere", "nothere"])
def test_an_app_whose_reranker_is_not_there_breaks_alone(run, tmp_path, model):
    rerank = {"reranker": "onnx", "model": model}
    quoting = {"route": {"targets": ["extractive"]}}
    place = write_workspace(
        tmp_path / "w",
        apps={"good": quoting, "bad": {**quoting, "knowledge": {"collection": "docs", "steps": {"rerank": rerank}}}},
        documents={"a.md": "# A\n\nText.\n"},
    )
    listed = {row["name"]: row for row in run("apps", "--json", at=place).json}
    assert listed["good"]["channels"]["dev"]
    assert listed["bad"]["description"].startswith("broken: the reranker")
    found = {row["what"]: row for row in run("doctor", "--json", at=place).json}
    assert (found["app bad"]["state"], found["app good"]["state"]) == ("fail", "ok")
    refused = run("release", "build", "--app", "bad", at=place)
    assert refused.code in {1, 3}
    assert "rerank" in refused.err
    assert "Traceback" not in refused.err


def test_doctor_names_steps_that_cannot_be_taken(run, tmp_path):
    steps = {
        "typo": {"rerank": {"reranker": "onyx", "model": "x"}},
        "gone": {"rerank": {"reranker": "onnx", "model": "nothere"}},
        "nobody": {"rerank": {"reranker": "provider", "model": "nobody/rerank"}},
        "routeless": {"expansion": {"queries": 2}, "model": {"name": "route/nope"}},
        "fine": {"spelling": True, "expansion": {"queries": 2}, "model": {"name": "extractive/x"}},
    }
    collections = {name: {"steps": each} for name, each in steps.items()}
    place = write_workspace(tmp_path / "w", settings={"knowledge": {"collections": collections}})
    (place / "knowledge").mkdir()
    (place / "documents").mkdir()
    (place / "documents" / "a.md").write_text("# A\n\nText.\n")
    for name in steps:
        (place / "knowledge" / f"{name}.yaml").write_text(f"collection: {name}\nsources: [{{path: ../documents}}]\n")
    rows = run("doctor", "--json", at=place).json
    found = {row["what"]: row for row in rows if ", steps" in row["what"]}
    assert set(found) == {f"collection {name}, steps" for name in ("typo", "gone", "nobody", "routeless")}
    assert "onyx" in found["collection typo, steps"]["cause"]
    assert "nothere" in found["collection gone, steps"]["cause"]
    assert all(row["state"] == "warn" and row["fix"] for row in found.values())


def test_doctor_says_when_ray_does_not_answer_or_is_not_installed(run, tmp_path, monkeypatch):
    compute = {"executor": "ray", "address": "127.0.0.1:9", "workers": 2}
    place = write_workspace(tmp_path / "w", settings={"compute": compute})
    found = {row["what"]: row for row in run("doctor", "--json", at=place).json}
    assert found["compute"]["state"] == "fail"
    assert "no Ray cluster answers at '127.0.0.1:9'" in found["compute"]["cause"]
    assert "ray start --head" in found["compute"]["fix"]
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    missing = next(row for row in run("doctor", "--json", at=place).json if row["what"] == "compute")
    assert "interlock[ray]" in missing["fix"]


def test_doctor_names_the_workers_and_warns_of_more_than_cores(run, tmp_path):
    place = write_workspace(tmp_path / "w", settings={"compute": {"executor": "processes", "workers": 900}})
    rows = [row for row in run("doctor", "--json", at=place).json if row["what"].startswith("compute")]
    assert [(row["state"], row["fix"]) for row in rows] == [("warn", "set compute.workers to 0")]


def test_an_ingest_takes_the_executor_it_is_told(run, tmp_path):
    documents = {f"{n}.md": f"# Note {n}\n\nThe number of this note is {n}.\n" for n in range(3)}
    place = write_workspace(tmp_path / "w", documents=documents)
    (report,) = run("ingest", "--executor", "processes", "--workers", "1", "--json", at=place).json
    assert report["added"] == 3
    assert run("ingest", "--executor", "moon", at=place).code == 2


async def _spoil(workspace):
    import sqlalchemy as sa

    sql = open_sql(f"sqlite:///{workspace / '.interlock' / 'control.db'}")
    await sql.write(lambda c: c.execute(sa.text("UPDATE audit_lines SET action = 'x' WHERE seq = 0")) and None)
    await sql.close()


def test_a_log_that_was_changed_makes_verify_leave_with_1(run, tmp_path):
    import asyncio

    place = write_workspace(tmp_path / "w")
    run("keys", "create", "x", at=place)
    assert run("audit", "verify", at=place).code == 0
    asyncio.run(_spoil(place))
    result = run("audit", "verify", at=place)
    assert result.code == 1
    assert "line 0" in result.out
    assert run("audit", "verify", "--json", at=place).json["ok"] is False
    assert run("doctor", at=place).code == 1


def process(*arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "interlock", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
    )


def test_the_process_leaves_with_the_code_of_the_failure(tmp_path):
    assert process("-w", str(tmp_path), "ask", "hi").returncode == 3
    assert process("-w", str(tmp_path), "doctor").returncode == 1
    assert process("nothing").returncode == 2
    assert process("--version").stdout.startswith("interlock ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_completes_commands(run, shell, monkeypatch, capsys):
    script = run("completion", shell)
    assert script.code == 0
    assert "_INTERLOCK_COMPLETE" in script.out
    monkeypatch.setenv("_INTERLOCK_COMPLETE", f"{shell}_complete")
    words = {"bash": "interlock k", "zsh": "interlock k", "fish": "interlock k"}[shell]
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", "k" if shell == "fish" else "1")
    monkeypatch.setattr(sys, "argv", ["interlock"])
    with pytest.raises(SystemExit):
        main()
    assert "keys" in capsys.readouterr().out


@pytest.mark.parametrize("template", [template.name for template in templates()])
@pytest.mark.model
def test_every_template_works_from_init_on(run, tmp_path, models_dir, monkeypatch, template):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INTERLOCK_MODELS_DIR", str(models_dir))
    place = tmp_path / "My new Workspace"
    made = run("init", str(place), "--template", template, "--json")
    assert made.code == 0
    assert "interlock.yaml" in made.json["files"]
    again = run("init", str(place), "--template", template)
    assert again.code == 1
    assert "new directory" in again.err
    checked = run("doctor", "--json", at=place)
    assert checked.code == 0, checked.out
    apps = run("apps", "--json", at=place).json
    if apps:
        assert run("ingest", "--json", at=place).code == 0
        answer = run("ask", "Who may read my files?", "--json", at=place)
        assert answer.code == 0, answer.err
        assert answer.json["citations"]
        assert [row["state"] for row in run("doctor", "--json", at=place).json if row["what"].startswith("coll")] == [
            "ok"
        ]
    else:
        assert run("ingest", at=place).code == 3


@pytest.mark.model
async def test_the_gateway_template_answers_from_the_local_model_without_any_key(tmp_path, models_dir, monkeypatch):
    from interlock.core.messages import ChatRequest, text_message
    from interlock.templates import write_template

    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INTERLOCK_MODELS_DIR", str(models_dir))
    write_template("gateway", tmp_path / "w")
    async with open_app(tmp_path / "w") as app:
        request = ChatRequest("route/answers", (text_message("user", "Say hi."),), max_output_tokens=8)
        result = await app.parts.gateway.complete(app.owner(), request)
        assert result.message.text


def test_an_unknown_template_and_a_file_in_the_way_are_told(run, tmp_path):
    assert "qa" in run("init", str(tmp_path / "x"), "--template", "nothing").err
    (tmp_path / "file").write_text("x")
    result = run("init", str(tmp_path / "file"))
    assert result.code in {1, 2}
    assert "Traceback" not in result.err
    listed = run("init", "--list", "--json", str(tmp_path / "y"))
    assert {row["name"] for row in listed.json} >= {"qa", "gateway"}


def test_accounts_and_signing_keys_are_changed_from_the_command_line(run):
    made = run("accounts", "create", "cleo", "--role", "operator", "--password", "correct horse battery", "--json").json
    assert made == {"username": "cleo", "roles": ["operator"], "groups": [], "disabled": False}
    changed = run("accounts", "set", "cleo", "--role", "viewer", "--group", "staff", "--json").json
    assert changed == {"username": "cleo", "roles": ["viewer"], "groups": ["staff"], "disabled": False}
    assert run("accounts", "disable", "cleo", "--json").json["disabled"] is True
    assert "active" in run("accounts", "enable", "cleo").out
    assert run("accounts", "set", "cleo").code == 2
    missing = run("accounts", "disable", "nobody")
    assert missing.code == 3 and "interlock accounts list" in missing.err

    assert run("token", "mint", "--user", "ana").code == 0
    assert [(key["kid"], key["state"]) for key in run("token", "signers", "--json").json] == [("default", "active")]
    assert run("token", "revoke", "default", "--json").json == {"kid": "default", "state": "revoked"}
    assert run("token", "revoke", "default").code == 3


def test_a_document_is_shown_with_what_a_person_should_look_at(run, tmp_path, models_dir):
    here = make_workspace(tmp_path / "acme", models_dir)
    garbled = (
        "The gat\ufffdway n\ufffd\ufffdds a good conn\ufffdction to th\ufffd n\ufffdtwork of th\ufffd hous\ufffd. " * 4
    )
    (here / "documents" / "scan.txt").write_text(garbled)
    (here / "documents" / "tool").write_bytes(b"\x7fELF" + bytes(999))
    report = run("ingest", at=here)
    assert report.code == 0 and "skipped: 1 without suffix" in report.out
    found = {info["source"]: info for info in run("documents", "--json", at=here).json}
    assert found["returns.md"]["quality"] == 1.0
    assert [page["reasons"] for page in found["scan.txt"]["review"]] == [["garbled"]]
    assert run("documents", "show", found["scan.txt"]["id"], "--json", at=here).json == found["scan.txt"]
    shown = run("documents", "show", found["scan.txt"]["id"], at=here).out
    assert "A person should look at" in shown and "garbled" in shown
    assert run("documents", "show", "doc_nothing", at=here).code == 3
    assert run("documents", "boxes", found["returns.md"]["id"], "0", "5", "--json", at=here).json == []


def test_deleting_backing_up_and_restoring_leave_a_line(run, tmp_path, models_dir):
    here = make_workspace(tmp_path / "acme", models_dir)
    assert run("ingest", at=here).code == 0
    found = {info["source"]: info["id"] for info in run("documents", "--json", at=here).json}
    gone = run("documents", "delete", found["pay/bands.md"], "--json", at=here).json
    assert gone["source"] == "pay/bands.md" and gone["deleted"]
    assert [info["source"] for info in run("documents", "--json", at=here).json] == ["returns.md"]
    assert run("documents", "delete", "doc_nothing", "--yes", at=here).code == 3
    archive = tmp_path / "kept.tar.gz"
    assert run("backup", archive, "--json", at=here).code == 0
    assert run("restore", archive, "--replace", "--json", at=here).code == 0
    lines = [
        (line["action"], line["subject"], line["outcome"]) for line in run("audit", "list", "--json", at=here).json
    ]
    # What the archive holds ends before its own line: the backup's is that of a log that was replaced.
    assert lines[0] == ("backup.restore", "kept.tar.gz", "ok")
    assert ("document.delete", found["pay/bands.md"], "ok") in lines
    assert ("document.delete", "doc_nothing", "not_found") in lines
    assert run("audit", "verify", at=here).code == 0
    other = tmp_path / "again.tar.gz"
    assert run("backup", other, "--json", at=here).code == 0
    newest = run("audit", "list", "--action", "backup.create", "--json", at=here).json[0]
    assert newest["subject"] == "again.tar.gz" and newest["details"]["rows"] > 0


def test_one_broken_source_file_stops_only_its_own_collection(run, tmp_path, models_dir):
    here = make_workspace(tmp_path / "acme", models_dir)
    (here / "knowledge" / "broken.yaml").write_text("collection: broken\nsources:\n  - path: [\n")
    report = run("ingest", at=here)
    assert report.code == 1
    assert "2 added" in report.out
    assert "'broken.yaml', line 4" in report.err
    assert run("ingest", "broken", at=here).code == 1
    rows = [row for row in run("doctor", "--json", at=here).json if row["what"] == "knowledge"]
    assert [row["state"] for row in rows] == ["fail"]
    nowhere = run("ingest", "nothing", at=here)
    assert nowhere.code == 3 and "broken.yaml" in nowhere.err


def test_times_of_sources_are_written_as_over_http_and_a_long_path_is_shortened(run, tmp_path, models_dir):
    here = make_workspace(tmp_path / "acme", models_dir)
    deep = here / "documents" / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    (deep / "owl.md").write_text("# Owl\n\nThe owl hunts at night.")
    run("ingest", at=here)
    (status,) = run("knowledge", "sources", "--json", at=here).json
    assert datetime.fromisoformat(status["synced_at"]).tzinfo is not None
    assert "T" in status["synced_at"]
    lines = run("documents", at=here).out.splitlines()
    assert max(map(len, lines)) < 200
    assert any("owl.md" in line and "…" in line for line in lines)


def test_an_emptied_source_is_kept_until_the_removal_is_confirmed(run, tmp_path, models_dir):
    here = make_workspace(tmp_path / "acme", models_dir)
    run("ingest", at=here)
    for path in sorted((here / "documents").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    refused = run("ingest", at=here)
    assert refused.code != 0
    assert "2 of its 2" in refused.err and "--allow-removals" in refused.err
    assert len(run("documents", "--json", at=here).json) == 2
    assert run("ingest", "--allow-removals", at=here).code == 0
    assert run("documents", "--json", at=here).json == []
