"""A LiteLLM proxy's configuration becomes ours, and what does not is said."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from interlock.cli.root import cli
from interlock.config import Settings
from interlock.core.errors import InvalidInput
from interlock.gateway.imports.litellm import convert
from interlock.gateway.types import Target

COMPANY = """
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-eu
      api_base: https://my-endpoint-europe-berri-992.openai.azure.com/
      api_key: os.environ/AZURE_API_KEY_EU
      api_version: "2024-10-21"
      rpm: 600
      tpm: 100000
      timeout: 300
      stream_timeout: 60
      region_name: eu
    model_info: {base_model: azure/gpt-4o, mode: chat}
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-ca
      api_base: https://my-endpoint-canada-berri992.openai.azure.com/
      api_key: os.environ/AZURE_API_KEY_CA
      rpm: 200
    model_info: {base_model: azure/gpt-4o}
  - model_name: claude
    litellm_params: {model: anthropic/claude-haiku-4-5, api_key: os.environ/ANTHROPIC_API_KEY}
  - model_name: cheap
    litellm_params:
      model: groq/llama-3.3-70b-versatile
      max_parallel_requests: 8
      input_cost_per_token: 0.00000059
      output_cost_per_token: 7.9e-07
  - model_name: bedrock-claude
    litellm_params:
      model: bedrock/converse/anthropic.claude-haiku-4-5-20251001-v1:0
      aws_region_name: eu-central-1
  - model_name: gemini
    litellm_params:
      model: vertex_ai/gemini-2.5-flash
      vertex_project: my-project
      vertex_location: europe-west4
      vertex_credentials: /run/secrets/vertex.json
  - model_name: vllm-models
    litellm_params: {model: openai/facebook/opt-125m, api_base: http://0.0.0.0:4000/v1, api_key: none}
  - model_name: "openai/*"
    litellm_params: {model: "openai/*", api_key: os.environ/OPENAI_API_KEY}
  - model_name: odd
    litellm_params: {model: sagemaker/jumpstart-dft-x}

litellm_settings:
  drop_params: true
  num_retries: 3
  request_timeout: 600
  success_callback: [langfuse]
  fallbacks: [{gpt-4o: [claude, nowhere]}]
  context_window_fallbacks: [{claude: [gemini]}]
  max_budget: 100
  budget_duration: 30d
  default_internal_user_params: {max_budget: 2.5, budget_duration: 1d, rpm_limit: 30}
  cache: true

router_settings:
  routing_strategy: simple-shuffle
  model_group_alias: {gpt-4: gpt-4o}
  allowed_fails: 3
  cooldown_time: 30
  num_retries: 2
  redis_host: os.environ/REDIS_HOST
  provider_budget_config:
    anthropic: {budget_limit: 10, time_period: 1d}

general_settings:
  master_key: sk-1234
  database_url: postgresql://user:hunter2@db/litellm
"""

SMALL = """
model_list:
  - model_name: fast
    litellm_params: {model: gpt-4o-mini, api_key: sk-live-0123456789abcdef, weight: 9}
  - model_name: fast
    litellm_params: {model: claude-haiku-4-5, weight: 1}
  - model_name: local
    litellm_params: {model: ollama_chat/llama3.2, api_base: http://localhost:11434}
router_settings:
  routing_strategy: latency-based-routing
  fallbacks: [{fast: [local]}]
"""


PARTICULAR = """
model_list:
  - model_name: main
    litellm_params: {model: openai/gpt-4o, max_retries: 4, weight: 3, timeout: 30}
    model_info:
      id: one
      mode: chat
      base_model: gpt-4o
      max_input_tokens: 128000
      max_tokens: 4096
      supports_vision: true
      supports_function_calling: false
  - model_name: main
    litellm_params: {model: groq/tuned, max_retries: 1, timeout: 20, rpm: many}
    model_info: {base_model: llama-3.3-70b, supports_vision: perhaps}
  - model_name: llama
    litellm_params: {model: ollama_chat/llama3.1, api_base: http://localhost:11434}
  - model_name: embed
    litellm_params: {model: text-embedding-3-small}
  - model_name: ranks
    litellm_params: {model: cohere/rerank-v3.5}
  - model_name: heard
    litellm_params: {model: openai/some-listener}
    model_info: {mode: audio_transcription}
  - model_name: bedrock
    litellm_params: {model: bedrock/amazon.nova-pro-v1:0, aws_secret_access_key: SECRET-OF-AWS}
router_settings:
  timeout: 60
  context_window_fallbacks: [{llama: [main]}]
  content_policy_fallbacks: [{main: [llama]}]
  model_group_alias: {other: nowhere}
litellm_settings:
  drop_params: true
  request_timeout: 7200
  max_budget: 100
  budget_duration: 30d
  default_fallbacks: [main]
"""


def imported(text):
    found = convert(yaml.safe_load(text))
    return found, Settings(**found.settings)


def test_a_company_file_becomes_settings_that_hold():
    found, settings = imported(COMPANY)
    gateway = settings.gateway
    eu = gateway.providers["my-endpoint-europe-berri-992"]
    assert (eu.kind, eu.key, eu.api_version) == ("azure", "env:AZURE_API_KEY_EU", "2024-10-21")
    assert eu.deployments == {"gpt-4o": "gpt-4o-eu"}
    assert eu.base_url == "https://my-endpoint-europe-berri-992.openai.azure.com"
    assert gateway.providers["groq"].max_concurrency == 8
    assert gateway.providers["bedrock"].region == "eu-central-1"
    assert gateway.providers["vertex"].credentials == "file:/run/secrets/vertex.json"
    assert gateway.approvals["my-endpoint-europe-berri-992/gpt-4o"].regions == ["eu"]
    assert (gateway.breaker.failures, gateway.breaker.pause_s) == (4, 30)
    assert found.settings["gateway"]["routes"]["bedrock-claude"]["targets"] == [
        "bedrock/anthropic.claude-haiku-4-5-20251001-v1:0"
    ]


def test_routes_keep_weights_timeouts_retries_fallbacks_and_aliases():
    _, settings = imported(COMPANY)
    route = settings.gateway.routes["gpt-4o"]
    europe, canada = "my-endpoint-europe-berri-992/gpt-4o", "my-endpoint-canada-berri992/gpt-4o"
    assert (route.strategy, route.targets, route.weights) == ("weighted", [europe, canada], {europe: 600, canada: 200})
    assert (route.retries, route.try_timeout_s, route.first_token_timeout_s, route.total_timeout_s) == (2, 300, 60, 600)
    assert (route.degrade, route.smaller) == (["smaller"], ["anthropic/claude-haiku-4-5"])
    assert settings.gateway.routes["gpt-4"] == route
    assert settings.gateway.routes["claude"].targets == ["anthropic/claude-haiku-4-5"]
    assert "openai/*" not in settings.gateway.routes


def test_rates_budgets_and_prices_are_taken_over():
    _, settings = imported(COMPANY)
    rules = {rule.name: rule for rule in settings.cost.limits}
    rate = rules["rate:my-endpoint-europe-berri-992-gpt-4o"]
    assert (rate.requests, rate.tokens, rate.window) == (600, 100_000, "60s")
    assert rate.match.model == "my-endpoint-europe-berri-992/gpt-4o"
    assert (rules["budget:all"].money, rules["budget:all"].period) == ("100", "month")
    assert (rules["budget:each-user"].money, rules["budget:each-user"].per) == ("2.5", ("user",))
    assert rules["rate:each-user"].requests == 30
    assert rules["budget:anthropic"].match.provider == "anthropic"
    price = settings.cost.prices["groq/llama-3.3-70b-versatile"]
    assert (price.input_per_million, price.output_per_million) == ("0.59", "0.79")


def test_what_has_no_counterpart_is_named_with_its_place():
    found, _ = imported(COMPANY)
    said = {(note.field, note.kind) for note in found.notes}
    assert ("model_list[8].litellm_params.model", "no counterpart") in said
    assert ("litellm_settings.success_callback", "no counterpart") in said
    assert ("router_settings.redis_host", "no counterpart") in said
    assert ("general_settings.master_key", "do") in said
    assert any("nowhere" in note.message for note in found.notes)
    assert any("route/gpt-4o" in note.message for note in found.notes)


def test_fallbacks_for_one_kind_of_failure_do_not_become_fallbacks_for_any():
    found, settings = imported(PARTICULAR.replace("default_fallbacks: [main]", "default_fallbacks: []"))
    assert settings.gateway.routes["llama"].targets == ["ollama/llama3.1"]
    assert not settings.gateway.routes["llama"].smaller
    assert not settings.gateway.routes["main"].smaller
    said = {note.field: note for note in found.notes}
    long = said["router_settings.context_window_fallbacks"]
    assert long.kind == "no counterpart"
    assert "add openai/gpt-4o, groq/tuned to gateway.routes.llama.targets" in long.message
    assert said["router_settings.content_policy_fallbacks"].kind == "no counterpart"


def test_a_default_fallback_stands_behind_routes_of_its_own_kind_alone():
    found, settings = imported(PARTICULAR)
    targets = {name: [*route.targets, *route.smaller] for name, route in settings.gateway.routes.items()}
    assert targets["llama"] == ["ollama/llama3.1", "openai/gpt-4o", "groq/tuned"]
    assert targets["embed"] == ["openai/text-embedding-3-small"]
    assert targets["ranks"] == ["cohere/rerank-v3.5"]
    assert targets["heard"] == ["openai/some-listener"]
    told = [note.message for note in found.notes if note.field == "default_fallbacks"]
    assert [name for name in ("embed", "ranks", "heard") if any(repr(name) in message for message in told)] == [
        "embed",
        "ranks",
        "heard",
    ]


def test_facts_weights_and_retries_of_deployments_are_taken_over():
    _, settings = imported(PARTICULAR)
    facts = settings.gateway.providers["openai"].profiles["gpt-4o"]
    assert (facts.context_tokens, facts.max_output_tokens, facts.images, facts.tools) == (128_000, 4096, True, False)
    route = settings.gateway.routes["main"]
    assert (route.strategy, route.weights, route.retries) == ("weighted", {"openai/gpt-4o": 3}, 4)
    assert settings.gateway.routes["llama"].total_timeout_s == 60


def test_nothing_is_dropped_in_silence():
    found, _ = imported(PARTICULAR)
    said = {(note.field, note.kind) for note in found.notes}
    assert said >= {
        ("model_list[0].model_info.id", "no counterpart"),
        ("model_list[0].model_info.max_input_tokens", "differs"),
        ("model_list[1].litellm_params.rpm", "do"),
        ("model_list[1].model_info.base_model", "do"),
        ("model_list[1].model_info.supports_vision", "no counterpart"),
        ("model_list[6].litellm_params.aws_secret_access_key", "no counterpart"),
        ("litellm_settings.budget_duration", "differs"),
        ("litellm_settings.drop_params", "no counterpart"),
        ("litellm_settings.request_timeout", "differs"),
        ("router_settings.model_group_alias.other", "no counterpart"),
    }
    of_main = {note.message for note in found.notes if note.field == "model_name 'main'"}
    assert of_main == {
        "its deployments have one try_timeout_s: the longest",
        "its deployments have one `retries`: the most of theirs",
        "groq/tuned names no weight and has 1",
    }
    assert "SECRET-OF-AWS" not in json.dumps([found.settings, found.notes])


def test_weights_that_their_strategy_does_not_read_are_told():
    found, settings = imported(SMALL)
    assert settings.gateway.routes["fast"].weights == {}
    assert any("gateway.routes.fast.strategy: weighted" in note.message for note in found.notes)


def test_the_command_names_models_that_a_budget_will_refuse_for_want_of_a_price(tmp_path):
    (tmp_path / "config.yaml").write_text(PARTICULAR)
    done = CliRunner().invoke(cli, ["import", "litellm", str(tmp_path / "config.yaml"), "--json"])
    assert done.exit_code == 0, done.output
    told = [note["message"] for note in json.loads(done.stdout)["notes"] if note["field"] == "cost.limits"]
    assert len(told) == 1
    assert "'budget:all'" in told[0]
    assert "ollama/llama3.1" in told[0]
    assert "openai/gpt-4o" not in told[0]


def test_a_secret_in_the_file_is_never_copied():
    for text in (COMPANY, SMALL):
        found, _ = imported(text)
        whole = json.dumps([found.settings, found.notes])
        assert not any(secret in whole for secret in ("sk-live", "sk-1234", "hunter2"))
    assert found.settings["gateway"]["providers"]["openai"]["key"] == "env:OPENAI_API_KEY"
    assert any(note.kind == "do" and "OPENAI_API_KEY" in note.message for note in found.notes)


def test_a_small_file_with_bare_names_and_a_local_server():
    _, settings = imported(SMALL)
    route = settings.gateway.routes["fast"]
    assert (route.strategy, route.targets) == ("latency", ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"])
    assert route.smaller == ["ollama/llama3.2"]
    assert settings.gateway.providers["ollama"].base_url == "http://localhost:11434/v1"


def test_every_target_of_an_imported_route_has_its_provider():
    for text in (COMPANY, SMALL):
        _, settings = imported(text)
        for route in settings.gateway.routes.values():
            for name in [*route.targets, *route.smaller]:
                assert Target.parse(name).provider in settings.gateway.providers


@pytest.mark.parametrize("config", [None, [], "text", {"model_list": 3}])
def test_something_else_is_refused(config):
    with pytest.raises(InvalidInput):
        convert(config)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PARAMS = st.fixed_dictionaries(
    {"model": st.sampled_from(["gpt-4o", "azure/x", "openai/a/b", "ollama/x", "bedrock/y", "zzz/q", "vertex_ai/g"])},
    optional={
        "api_base": st.just("https://host.example/v1"), "api_key": JSON, "rpm": JSON, "tpm": JSON, "timeout": JSON,
        "weight": JSON, "order": JSON, "max_budget": JSON, "budget_duration": JSON, "max_parallel_requests": JSON,
        "input_cost_per_token": JSON, "max_retries": JSON,
    },
)  # fmt: skip
INFO = st.dictionaries(
    st.sampled_from(["max_input_tokens", "max_tokens", "supports_vision", "supports_system_messages", "mode"]), JSON
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"model_name": st.text(max_size=6), "litellm_params": PARAMS}, optional={"model_info": JSON | INFO}
        ),
        max_size=4,
    ),
    st.dictionaries(
        st.sampled_from(
            [
                "fallbacks",
                "num_retries",
                "timeout",
                "cooldown_time",
                "allowed_fails",
                "model_group_alias",
                "context_window_fallbacks",
                "default_fallbacks",
                "provider_budget_config",
            ]
        ),
        JSON,
    ),
)
def test_whatever_stands_in_a_file_what_is_written_holds(rows, router):
    Settings(**convert({"model_list": rows, "router_settings": router}).settings)


def test_the_command_writes_a_workspace_that_opens(tmp_path):
    (tmp_path / "config.yaml").write_text(SMALL)
    out = tmp_path / "new"
    done = CliRunner().invoke(cli, ["import", "litellm", str(tmp_path / "config.yaml"), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert yaml.safe_load((out / "interlock.yaml").read_text()) == shown["settings"]
    routes = CliRunner().invoke(cli, ["-w", str(out), "routes", "--json"])
    assert {row["name"] for row in json.loads(routes.stdout)} == {"route/fast", "route/local"}
