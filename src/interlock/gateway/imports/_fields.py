"""Fields of LiteLLM's `config.yaml`: those that are read, and what to do about some that are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

__all__ = [
    "ADVICE",
    "DEPLOYMENT_FIELDS",
    "DEPLOYMENT_NUMBERS",
    "GENERAL_ADVICE",
    "LITELLM_FIELDS",
    "LITELLM_NUMBERS",
    "ROUTER_FIELDS",
    "ROUTER_NUMBERS",
    "ROW_FIELDS",
    "STRATEGIES",
]

STRATEGIES = {
    "simple-shuffle": "weighted",
    "latency-based-routing": "latency",
    "cost-based-routing": "cost",
    "usage-based-routing": "weighted",
    "usage-based-routing-v2": "weighted",
    "least-busy": "latency",
}
ROW_FIELDS = frozenset({"model_name", "litellm_params", "model_info", "rpm", "tpm"})
DEPLOYMENT_NUMBERS = frozenset(
    {
        "rpm", "tpm", "timeout", "stream_timeout", "weight", "order", "max_parallel_requests", "max_retries",
        "num_retries", "input_cost_per_token", "output_cost_per_token", "max_budget",
    }
)  # fmt: skip
DEPLOYMENT_FIELDS = DEPLOYMENT_NUMBERS | {
    "model", "api_base", "base_url", "api_key", "api_version", "region_name", "aws_region_name", "vertex_project",
    "vertex_location", "vertex_credentials", "custom_llm_provider", "budget_duration", "extra_headers", "headers",
    "temperature", "top_p", "max_tokens", "seed", "tenant_id", "client_id", "client_secret", "aws_profile_name",
}  # fmt: skip
ROUTER_NUMBERS = frozenset({"num_retries", "timeout", "stream_timeout", "allowed_fails", "cooldown_time"})
ROUTER_FIELDS = ROUTER_NUMBERS | {
    "routing_strategy", "fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks",
    "model_group_alias", "provider_budget_config",
}  # fmt: skip
LITELLM_NUMBERS = frozenset({"num_retries", "request_timeout", "max_budget", "allowed_fails", "cooldown_time"})
LITELLM_FIELDS = LITELLM_NUMBERS | {
    "fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "budget_duration",
    "default_internal_user_params", "default_key_generate_params",
}  # fmt: skip

GENERAL_ADVICE: Mapping[str, tuple[Literal["no counterpart", "differs", "do"], str]] = {
    "master_key": ("do", "make a key of ours: interlock keys create admin --role admin"),
    "database_url": ("do", "name a database of its own under stores.sql; keys and spend are not taken over"),
    "alerting": ("no counterpart", "alert on the metrics of /metrics"),
}
_AWS = "AWS's credentials are found as its own tools find them: export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
ADVICE: Mapping[str, str] = {
    "callbacks": "spans go to OTLP: observe.otlp_endpoint",
    "success_callback": "spans go to OTLP: observe.otlp_endpoint",
    "failure_callback": "spans go to OTLP: observe.otlp_endpoint",
    "cache": "see docs/how-to for the cache's own settings",
    "cache_params": "see docs/how-to for the cache's own settings",
    "redis_host": "workers share limits through stores.kv",
    "redis_port": "workers share limits through stores.kv",
    "redis_password": "workers share limits through stores.kv",
    "guardrails": "an app's guardrails stand in its app.yaml",
    "environment_variables": "set them where Interlock is started",
    "drop_params": "what a provider refuses comes back to the caller",
    "set_verbose": "content is never logged; see calls in the traces",
    "json_logs": "one JSON line a request: server.access_log",
    "enable_pre_call_checks": "a target whose context is too small for the request is always passed over",
    "aws_access_key_id": _AWS,
    "aws_secret_access_key": _AWS,
    "aws_session_token": _AWS,
}
"""What to know of a field that has no counterpart."""
