"""Limits, budgets, routes, providers and the configuration on the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from click.testing import CliRunner

from interlock.cli.root import cli
from interlock.core.errors import Conflict, InvalidInput, Misconfigured, NotFound
from interlock.testing.workspaces import write_workspace

SOON = (datetime.now(UTC).date() + timedelta(days=20)).isoformat()
SETTINGS = {
    "gateway": {
        "providers": {
            "good": {"kind": "scripted", "models": ["a", "b"]},
            "down": {"kind": "scripted", "models": ["x"], "script": [{"fail_status": 503}]},
        },
        "routes": {
            "r": {"targets": ["good/a", "good/b"]},
            "w": {"targets": ["good/a", "good/b"], "strategy": "weighted"},
        },
        "approvals": {"good/a": {"regions": ["us"]}, "good/b": {"regions": ["eu"], "deprecated_on": SOON}},
        "residency": {"strict": ["eu"]},
    },
    "cost": {
        "prices": {"good/*": {"input_per_million": "1", "output_per_million": "2"}},
        "limits": [{"name": "from-file", "window": "60s", "requests": 10}],
    },
}


class Shell:
    def __init__(self, folder):
        self.folder = folder

    def run(self, *arguments, code=0):
        done = CliRunner().invoke(cli, ["-w", str(self.folder), *arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.stdout

    def json(self, *arguments, code=0):
        return json.loads(self.run(*arguments, "--json", code=code))

    def rewrite(self, change):
        path = self.folder / "interlock.yaml"
        settings = yaml.safe_load(path.read_text())
        change(settings)
        path.write_text(yaml.safe_dump(settings))


@pytest.fixture
def shell(tmp_path):
    return Shell(
        write_workspace(tmp_path / "w", settings=SETTINGS, apps={"helper": {"route": {"targets": ["good/b"]}}})
    )


def test_limits_are_set_with_every_option_listed_and_removed(shell):
    made = shell.json(
        "limits", "set", "staff", "--tokens", "5000", "--period", "week", "--timezone", "Europe/Amsterdam",
        "--per", "user", "--per", "tag:team", "--group", "staff", "--tag", "team=blue*", "--soft", "--warn-at", "0.5",
    )  # fmt: skip
    assert made["match"] == {
        "key": None, "user": None, "group": "staff", "app": None, "provider": None, "model": None,
        "tags": {"team": "blue*"},
    }  # fmt: skip
    assert (made["per"], made["mode"], made["warn_at"], made["timezone"]) == (
        ["user", "tag:team"], "soft", 0.5, "Europe/Amsterdam",
    )  # fmt: skip
    assert not made["begins_anew"]
    assert [row["name"] for row in shell.json("limits", "list")] == ["from-file", "staff"]
    said = shell.run("limits", "list")
    assert "group staff" in said
    assert "10 requests per 60s" in said
    assert shell.json("limits", "remove", "staff")["name"] == "staff"
    with pytest.raises(NotFound):
        shell.run("limits", "remove", "staff")
    with pytest.raises(Conflict):
        shell.run("limits", "remove", "from-file")


def test_a_limit_over_a_configured_one_goes_back_to_it(shell):
    shell.run("limits", "set", "from-file", "--requests", "3", "--window", "60s")
    assert shell.json("limits", "list")[0]["requests"] == 3
    assert "interlock.yaml holds again" in shell.run("limits", "remove", "from-file")
    assert shell.json("limits", "list")[0]["requests"] == 10


def test_budgets_are_a_months_unless_said_otherwise(shell):
    assert shell.json("budgets", "set", "team", "$50", "--app", "helper")["period"] == "month"
    assert shell.json("budgets", "set", "hourly", "2.5", "--window", "1h", "--allow-unpriced")["unpriced"] == "allow"
    assert [row["name"] for row in shell.json("budgets", "list")] == ["hourly", "team"]
    used = shell.json("budgets", "usage", "team")
    assert used == [
        {"limit": "team", "measure": "money", "scope": {}, "used": "0", "of": "50", "share": 0.0, "state": "well",
         "mode": "hard", "per": "month"},
    ]  # fmt: skip
    assert "$50" in shell.run("budgets", "usage")
    shell.run("budgets", "remove", "team")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["limits", "set", "x", "--requests", "1"], "window"),
        (["limits", "set", "x", "--window", "60s"], "requests"),
        (["limits", "set", "x y", "--requests", "1", "--window", "60s"], "name"),
        (["budgets", "set", "x", "much"], "money"),
        (["limits", "set", "x", "--requests", "1", "--window", "60s", "--per", "planet"], "per"),
    ],
)
def test_a_wrong_limit_names_its_field(shell, arguments, field):
    with pytest.raises(InvalidInput) as caught:
        shell.run(*arguments)
    assert caught.value.param == field


def test_counters_are_compared_with_the_ledger(shell):
    shell.run("budgets", "set", "team", "50")
    found = shell.json("limits", "reconcile")
    assert (found["counters"], found["not_compared"], found["orphans"]) == ([], ["from-file"], [])
    shell.run("providers", "test", "good", "--model", "a")
    shell.run("budgets", "set", "late", "50")
    behind = {row["limit"]: row["state"] for row in shell.json("limits", "reconcile", code=1)["counters"]}
    assert behind == {"team": "equal", "late": "below"}
    assert "late" in shell.run("limits", "reconcile", "--repair")
    assert {row["state"] for row in shell.json("limits", "reconcile")["counters"]} == {"equal"}


def test_a_route_is_explained_for_somebody_else_and_refused_with_the_reason(shell):
    found = shell.json("route", "explain", "route/r")
    assert (found["chosen"], [row["position"] for row in found["targets"]]) == ("good/a", [1, 2])
    strict = shell.json("route", "explain", "route/r", "--as", "tenant:strict")
    assert (strict["chosen"], strict["regions"]) == ("good/b", [["eu"]])
    said = shell.run("route", "explain", "route/r", "--region", "eu")
    assert "not this one: it may process outside eu (region)" in said
    assert f"it is used until {SOON}" in said
    nobody = shell.json("route", "explain", "route/r", "--as", "tenant:strict", "--region", "us", code=1)
    assert nobody["chosen"] is None
    shell.run("limits", "set", "ada", "--tokens", "5", "--period", "day", "--user", "ada")
    limited = shell.json("route", "explain", "app/helper", "--as", "user:ada", "--tokens", "100", "--max-tokens", "5")
    assert limited["targets"][0]["limits"] == ["ada"]
    done = CliRunner().invoke(cli, ["-w", str(shell.folder), "route", "explain", "r", "--as", "nonsense"])
    assert done.exit_code == 2


def test_routes_and_providers_are_listed(shell):
    rows = {row["name"]: row for row in shell.json("routes")}
    assert set(rows) == {"route/r", "route/w", "app/helper"}
    assert [target["weight"] for target in rows["route/w"]["targets"]] == [1.0, 1.0]
    assert "route/r" in shell.run("routes")
    assert {row["name"] for row in shell.json("providers", "list")} == {"good", "down", "local", "extractive"}
    assert "scripted" in shell.run("providers", "list")


def test_a_provider_that_does_not_answer_fails_the_command(shell):
    (good,) = shell.json("providers", "test", "good")
    assert (good["ok"], good["how"]) == (True, "list")
    (down,) = shell.json("providers", "test", "down", "--model", "x", code=1)
    assert (down["ok"], down["code"]) == (False, "provider_error")
    assert "FAIL  down" in shell.run("providers", "test", "down", "--model", "x", code=1)
    done = CliRunner().invoke(cli, ["-w", str(shell.folder), "providers", "test", "--model", "x"])
    assert done.exit_code == 2


def test_the_register_warns_of_last_days_and_fails_on_what_is_used_after_them(shell):
    rows = {row["target"]: row for row in shell.json("providers", "register")}
    assert (rows["good/b"]["state"], rows["good/b"]["used_by"]) == ("ends soon", ["route/r", "route/w", "app/helper"])
    assert (rows["down/x"]["state"], rows["down/x"]["uses"]) == ("unregistered", None)
    # Whether models are here is another matter, so its exit code is not looked at.
    findings = json.loads(CliRunner().invoke(cli, ["-w", str(shell.folder), "doctor", "--json"]).stdout)
    assert any(found["what"] == "target good/b" and found["state"] == "warn" for found in findings)
    shell.rewrite(lambda s: s["gateway"]["approvals"]["good/b"].update(deprecated_on="2020-01-01"))
    assert "it is out of use since 2020-01-01" in shell.run("providers", "register", code=1)


def test_doctor_looks_whether_the_keys_of_listed_providers_can_be_read(shell, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("THERE_IS_ONE", "a-key")
    added = {
        "unset": {"kind": "openai", "key": "env:NO_SUCH_KEY_THERE", "models": ["m"]},
        "fileless": {"kind": "anthropic", "key": f"file:{tmp_path}/none", "models": ["m"]},
        "heads": {"kind": "vllm", "headers": {"x-api-key": "env:NO_SUCH_HEADER"}, "models": ["m"]},
        "account": {"kind": "vertex", "project": "p", "credentials": f"file:{tmp_path}/sa.json", "models": ["m"]},
        "cloud": {"kind": "bedrock", "region": "eu-west-1", "models": ["m"]},
        "keyed": {"kind": "openai", "key": "env:THERE_IS_ONE", "models": ["m", "n"]},
        "open": {"kind": "vllm", "models": ["m"]},
    }
    shell.rewrite(lambda s: s["gateway"]["providers"].update(added))
    findings = json.loads(CliRunner().invoke(cli, ["-w", str(shell.folder), "doctor", "--json"]).stdout)
    found = {row["what"].removeprefix("provider ").partition(":")[0]: row for row in findings}
    assert {name: found[name]["state"] for name in added} == {
        "unset": "warn", "fileless": "warn", "heads": "warn", "account": "warn", "cloud": "warn", "keyed": "ok",
        "open": "ok",
    }  # fmt: skip
    assert found["unset"]["fix"] == "export NO_SUCH_KEY_THERE=…"
    assert "AWS_ACCESS_KEY_ID" in found["cloud"]["fix"]
    assert "key file" in found["fileless"]["cause"]
    assert "key file" in found["account"]["cause"]
    assert all(found[name]["fix"] for name in added if found[name]["state"] == "warn")


def test_a_configuration_is_checked_without_a_server(shell):
    assert "no server runs here" in shell.run("reload")
    assert shell.json("reload", "--check") == {"ok": True, "servers": []}
    shell.rewrite(lambda s: s["gateway"]["providers"].update(new={"kind": "openai", "key": "env:NO_SUCH_KEY_THERE"}))
    with pytest.raises(Misconfigured) as caught:
        shell.run("reload", "--check")
    assert caught.value.param == "gateway.providers.new.key"
    assert shell.json("config", "history") == []
    with pytest.raises(NotFound):
        shell.run("config", "rollback", "7")
