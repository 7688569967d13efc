"""Settings: layers, where each came from, and what is wrong, named."""

from __future__ import annotations

import os

import pytest

from interlock.config import find_workspace, load_settings, strange_variables
from interlock.core.errors import Misconfigured, NotFound


@pytest.fixture
def root(tmp_path, monkeypatch):
    for name in ("INTERLOCK_WORKSPACE", "INTERLOCK_TENANT", "INTERLOCK_MODELS_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(root, text):
    (root / "interlock.yaml").write_text(text)
    return root


def source_of(workspace, name):
    return next((o.value, o.source) for o in workspace.origins() if o.name == name)


def test_an_empty_file_is_a_working_workspace(root):
    workspace = load_settings(write(root, ""))
    assert workspace.settings.server.port == 8321
    assert {origin.source for origin in workspace.origins()} == {"default"}
    assert workspace.data == root / ".interlock"


def test_flags_win_over_the_environment_over_the_file(root, monkeypatch):
    write(root, "server: {port: 1111, host: 0.0.0.0, shutdown_s: 5}")
    monkeypatch.setenv("INTERLOCK_SERVER__PORT", "2222")
    monkeypatch.setenv("INTERLOCK_SERVER__HOST", "127.0.0.2")
    workspace = load_settings(root, {"server": {"port": 3333}})
    assert source_of(workspace, "server.port") == (3333, "flag")
    assert source_of(workspace, "server.host") == ("127.0.0.2", "environment")
    assert source_of(workspace, "server.shutdown_s") == (5.0, "interlock.yaml")
    assert source_of(workspace, "server.max_body_bytes") == (25_000_000, "default")


def test_a_whole_section_may_come_from_the_environment(root, monkeypatch):
    write(root, "gateway: {detect: true}")
    monkeypatch.setenv("INTERLOCK_GATEWAY", '{"routes": {"r": {"targets": ["local/x"]}}}')
    workspace = load_settings(root)
    assert workspace.settings.gateway.routes["r"].targets == ["local/x"]
    assert workspace.settings.gateway.detect is True


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("server: {port: high}", "server.port"),
        ("server: {port: 70000}", "server.port"),
        ("server: {prot: 1}", "server.prot"),
        ("sever: {port: 1}", "sever"),
        ("gateway: {providers: {x: {kind: openai, base_url: nonsense}}}", "gateway.providers.x.base_url"),
        ("gateway: {providers: {x: {}}}", "gateway.providers.x.kind"),
        ("gateway: {routes: {r: {targets: []}}}", "gateway.routes.r.targets"),
        ("gateway: {routes: {r: {targets: [/x]}}}", "gateway.routes.r.targets"),
        ("cost: {prices: {a: {input_per_million: free, output_per_million: '1'}}}", "cost.prices.a.input_per_million"),
        ("stores: {kv: redis}", "stores.kv"),
        ("access: {token_max_age_s: 5}", "access.token_max_age_s"),
        ("tenant: ''", "tenant"),
        ("tenant: [a]", "tenant"),
    ],
)
def test_a_wrong_value_names_its_setting_and_its_source(root, text, name):
    with pytest.raises(Misconfigured) as caught:
        load_settings(write(root, text))
    assert caught.value.param == name
    assert f"{name!r} from interlock.yaml is wrong" in caught.value.message
    assert "interlock config show" in (caught.value.hint or "")


def test_a_wrong_value_of_the_environment_or_a_flag_says_so(root, monkeypatch):
    write(root, "server: {port: 1}")
    with pytest.raises(Misconfigured, match=r"'server\.port' from flag"):
        load_settings(root, {"server": {"port": "x"}})
    monkeypatch.setenv("INTERLOCK_SERVER__PORT", "x")
    with pytest.raises(Misconfigured, match=r"'server\.port' from environment"):
        load_settings(root)
    monkeypatch.setenv("INTERLOCK_SERVER", "{not json")
    with pytest.raises(Misconfigured, match="INTERLOCK_"):
        load_settings(root)


def test_a_secret_in_a_wrong_place_is_not_repeated(root):
    write(root, "gateway: {providers: {x: {kind: openai, api_key: sk-very-secret-value-1234567890}}}")
    with pytest.raises(Misconfigured) as caught:
        load_settings(root)
    assert "sk-very" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b", "just text", "a: [", "\x00", "1: 2", "a: *b", "? [x]\n: y"])
def test_a_file_that_is_no_mapping_of_names_is_told(root, text):
    with pytest.raises(Misconfigured, match=r"interlock\.yaml"):
        load_settings(write(root, text))


def test_a_binary_file_is_told(root):
    (root / "interlock.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Misconfigured):
        load_settings(root)


def test_the_nearest_workspace_above_is_found(root, monkeypatch):
    deep = root / "a" / "b"
    deep.mkdir(parents=True)
    write(root, "")
    assert find_workspace(deep) == root
    monkeypatch.chdir(deep)
    assert find_workspace() == root
    write(root / "a", "")
    assert find_workspace() == root / "a"
    monkeypatch.setenv("INTERLOCK_WORKSPACE", str(root))
    assert find_workspace() == root
    monkeypatch.setenv("INTERLOCK_WORKSPACE", str(deep))
    with pytest.raises(NotFound):
        find_workspace()


def test_no_workspace_says_how_to_make_one(root, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(NotFound) as caught:
        find_workspace()
    assert "interlock init" in (caught.value.hint or "")


def test_a_misspelt_variable_is_warned_about_with_the_nearest_setting_and_without_its_value(root, monkeypatch, caplog):
    write(root, "gateway: {providers: {x: {kind: openai, api_key_env: INTERLOCK_OWN_KEY}}}")
    monkeypatch.setenv("INTERLOCK_SERVER_PORT", "9000")
    monkeypatch.setenv("INTERLOCK_TENNANT", "s3cret-value")
    monkeypatch.setenv("INTERLOCK_SOMETHING_ELSE_ENTIRELY", "x")
    monkeypatch.setenv("INTERLOCK_OWN_KEY", "sk-1")
    monkeypatch.setenv("INTERLOCK_OFFLINE", "1")
    monkeypatch.setenv("INTERLOCK_DATA_DIR", ".elsewhere")
    with caplog.at_level("WARNING", "interlock.config"):
        workspace = load_settings(root)
    found = {strange.name: strange.nearest for strange in strange_variables(workspace, os.environ)}
    assert found == {
        "INTERLOCK_SERVER_PORT": "INTERLOCK_SERVER__PORT",
        "INTERLOCK_TENNANT": "INTERLOCK_TENANT",
        "INTERLOCK_SOMETHING_ELSE_ENTIRELY": "",
    }
    assert "did you mean INTERLOCK_SERVER__PORT?" in caplog.text
    assert "s3cret" not in caplog.text
