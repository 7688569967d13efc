"""A LiteLLM proxy's `config.yaml` as settings of ours, and a list of what has no counterpart.

Nothing of LiteLLM is needed for it. Secrets written into that file are never copied: a reference takes their place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from interlock.core.errors import InvalidInput
from interlock.gateway.imports._names import Kind, kind_of

__all__ = ["Imported", "Note", "convert"]

# Any in this module: YAML that somebody else wrote, narrowed step by step.
_ENV = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.:-]+")
_STRATEGIES = {
    "simple-shuffle": "weighted",
    "latency-based-routing": "latency",
    "cost-based-routing": "cost",
    "usage-based-routing": "weighted",
    "usage-based-routing-v2": "weighted",
    "least-busy": "latency",
}
_DEPLOYMENT_KEYS = frozenset(
    {
        "model", "api_base", "base_url", "api_key", "api_version", "rpm", "tpm", "timeout", "stream_timeout", "weight",
        "order", "region_name", "aws_region_name", "vertex_project", "vertex_location", "vertex_credentials",
        "custom_llm_provider", "max_parallel_requests", "max_retries", "input_cost_per_token", "output_cost_per_token",
        "max_budget", "budget_duration", "extra_headers", "headers", "temperature", "top_p", "max_tokens", "seed",
        "tenant_id", "client_id", "client_secret", "aws_profile_name",
    }
)  # fmt: skip
_ROUTER_KEYS = frozenset(
    {
        "routing_strategy", "fallbacks", "default_fallbacks", "context_window_fallbacks", "num_retries", "timeout",
        "stream_timeout", "allowed_fails", "cooldown_time", "model_group_alias", "provider_budget_config",
        "enable_pre_call_checks",
    }
)  # fmt: skip
_LITELLM_KEYS = frozenset(
    {
        "num_retries", "request_timeout", "fallbacks", "default_fallbacks", "context_window_fallbacks", "max_budget",
        "budget_duration", "default_internal_user_params", "default_key_generate_params", "drop_params", "set_verbose",
        "allowed_fails", "cooldown_time", "json_logs",
    }
)  # fmt: skip


class Note(NamedTuple):
    """Something that a person must know or do."""

    field: str
    """Where it stands in the file that was read."""
    kind: Literal["no counterpart", "differs", "do"]
    message: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the file."""

    settings: dict[str, Any]
    """For `interlock.yaml`."""
    notes: list[Note]


def convert(config: object) -> Imported:
    """Read a decoded `config.yaml`. Raises: InvalidInput: it is none."""
    if not isinstance(config, dict) or not isinstance(config.get("model_list", []), list):
        raise InvalidInput("this is no LiteLLM configuration: it has no model_list", param="model_list")
    return _Importer(config).run()


@dataclass(slots=True)
class _Deployment:
    target: str
    weight: float | None
    requests: float | None
    order: float


@dataclass(slots=True)
class _Importer:
    config: Mapping[str, Any]
    notes: list[Note] = field(default_factory=list)
    providers: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, list[_Deployment]] = field(default_factory=dict)
    timeouts: dict[str, dict[str, float]] = field(default_factory=dict)
    sampling: dict[str, dict[str, Any]] = field(default_factory=dict)
    approvals: dict[str, dict[str, Any]] = field(default_factory=dict)
    prices: dict[str, dict[str, str]] = field(default_factory=dict)
    limits: list[dict[str, Any]] = field(default_factory=list)
    _entries: dict[str, str] = field(default_factory=dict)

    def run(self) -> Imported:
        for position, row in enumerate(self.config.get("model_list") or []):
            self._deployment(f"model_list[{position}]", row if isinstance(row, dict) else {})
        router, litellm = self._section("router_settings"), self._section("litellm_settings")
        gateway: dict[str, Any] = {"providers": self.providers, "routes": self._routes(router, litellm)}
        breaker = self._breaker({**litellm, **router})
        gateway |= {name: value for name, value in (("breaker", breaker), ("approvals", self.approvals)) if value}
        self._budgets(router, litellm)
        self._leftovers(router, litellm)
        cost = {name: value for name, value in (("prices", self.prices), ("limits", self.limits)) if value}
        return Imported({"gateway": gateway, **({"cost": cost} if cost else {})}, self.notes)

    def _section(self, name: str) -> dict[str, Any]:
        found = self.config.get(name) or {}
        return found if isinstance(found, dict) else {}

    def _note(self, place: str, kind: Literal["no counterpart", "differs", "do"], message: str) -> None:
        if Note(place, kind, message) not in self.notes:
            self.notes.append(Note(place, kind, message))

    # ── deployments ───────────────────────────────────────────────────────────────────────────────────────────────

    def _deployment(self, place: str, row: Mapping[str, Any]) -> None:
        params, info = row.get("litellm_params"), row.get("model_info") or {}
        if not isinstance(params, dict) or not isinstance(params.get("model"), str):
            self._note(place, "no counterpart", "it has no litellm_params.model")
            return
        kind = kind_of(params["model"], params.get("custom_llm_provider"))
        if kind is None:
            self._note(f"{place}.litellm_params.model", "no counterpart", f"nothing here speaks to {params['model']!r}")
            return
        model = kind.model
        entry = self._entry(place, kind, params)
        if kind.kind == "azure" and isinstance(info.get("base_model"), str):
            model = str(info["base_model"]).removeprefix("azure/")
        name = self._provider(kind, params, entry)
        if kind.kind == "azure" and model != kind.model:
            self.providers[name].setdefault("deployments", {})[model] = kind.model
        for key in params:
            if key not in _DEPLOYMENT_KEYS:
                self._note(f"{place}.litellm_params.{key}", "no counterpart", "it is left out")
        group = str(row.get("model_name") or model)
        if "*" in group or "*" in model:
            self._note(
                f"{place}.model_name", "differs", f"any model of it is asked for as {name}/MODEL; no route is made"
            )
            return
        target = f"{name}/{model}"
        self._figures(place, target, params, info, row)
        order = _number(params.get("order"))
        weight = _number(params.get("weight"))
        requests = _number(params.get("rpm", row.get("rpm")))
        self.groups.setdefault(group, []).append(_Deployment(target, weight, requests, order or 0.0))
        listed = self.providers[name].setdefault("models", [])
        if model not in listed:
            listed.append(model)
        times = self.timeouts.setdefault(group, {})
        for theirs, ours in (("timeout", "try_timeout_s"), ("stream_timeout", "first_token_timeout_s")):
            if (seconds := _number(params.get(theirs))) is not None and seconds > 0:
                times[ours] = max(times.get(ours, 0.0), min(seconds, 3600.0))
        chosen = {"temperature": "temperature", "top_p": "top_p", "seed": "seed", "max_tokens": "max_output_tokens"}
        for theirs, ours in chosen.items():
            if params.get(theirs) is not None:
                self.sampling.setdefault(group, {})[ours] = params[theirs]

    def _entry(self, place: str, kind: Kind, params: Mapping[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = {"kind": kind.kind}
        base = params.get("api_base") or params.get("base_url")
        if base is not None:
            address = self._address(f"{place}.litellm_params.api_base", str(base), kind)
            if address:
                entry["base_url"] = address
        key = self._key(place, kind, params.get("api_key"))
        if key:
            entry["key"] = key
        fields = {
            "api_version": "api_version",
            "aws_region_name": "region",
            "aws_profile_name": "profile",
            "vertex_location": "region",
            "vertex_project": "project",
            "tenant_id": "entra_tenant",
            "client_id": "entra_client",
        }
        for theirs, ours in fields.items():
            if params.get(theirs) is not None:
                plain = self._plain(f"{place}.litellm_params.{theirs}", params[theirs])
                entry |= {ours: plain} if plain else {}
        if params.get("client_secret") is not None:
            entry["entra_secret"] = self._secret(
                f"{place}.litellm_params.client_secret", params["client_secret"], "AZURE_CLIENT_SECRET"
            )
        if isinstance(params.get("vertex_credentials"), str):
            given = params["vertex_credentials"]
            entry["credentials"] = (
                f"file:{given}"
                if given.endswith(".json") and "{" not in given
                else self._secret(f"{place}.litellm_params.vertex_credentials", given, "VERTEX_CREDENTIALS")
            )
        if (most := _number(params.get("max_parallel_requests"))) is not None and most >= 1:
            entry["max_concurrency"] = int(most)
        if params.get("extra_headers") or params.get("headers"):
            self._note(
                f"{place}.litellm_params.extra_headers", "do", "set `headers` of the provider; they may hold secrets"
            )
        return entry

    def _address(self, place: str, base: str, kind: Kind) -> str | None:
        named = _ENV.fullmatch(base)
        if named is not None:
            self._note(place, "do", f"write the address that {named[1]} holds into base_url")
            return "https://set-this-address.invalid" if kind.kind in {"azure", "databricks", "cloudflare"} else None
        base = base.rstrip("/")
        parts = urlsplit(base)
        if "@" in parts.netloc or parts.query:
            # A password or a key in an address is a secret like any other: it is never copied.
            netloc = parts.netloc.rpartition("@")[2]
            parts = parts._replace(netloc=netloc, query="", fragment="")
            base = urlunsplit(parts).rstrip("/")
            self._note(place, "do", "its user, password and query are left out; send them as headers by reference")
        if kind.kind == "azure":
            return f"{parts.scheme}://{parts.netloc}"
        if kind.kind in {"ollama", "vllm", "lmstudio"} and not parts.path:
            return f"{base}/v1"
        return base

    def _plain(self, place: str, value: object) -> str | None:
        """A value that is no secret, with a variable's name left to be filled in."""
        found = _ENV.fullmatch(str(value))
        if found is None:
            return str(value)
        self._note(place, "do", f"write what {found[1]} holds into the settings; only secrets are read from variables")
        return None

    def _key(self, place: str, kind: Kind, given: object) -> str | None:
        if given is None:
            return f"env:{kind.key_env}" if kind.key_env else None
        if not str(given).strip() or str(given) in {"none", "None", "fake", "anything", "EMPTY", "fake-key"}:
            return None
        name = kind.key_env or f"{kind.kind.upper()}_API_KEY"
        return self._secret(f"{place}.litellm_params.api_key", given, name)

    def _secret(self, place: str, given: object, name: str) -> str:
        found = _ENV.fullmatch(str(given))
        if found is not None:
            return f"env:{found[1]}"
        self._note(place, "do", f"a secret stands in the file; it was not copied: put it into the variable {name}")
        return f"env:{name}"

    def _provider(self, kind: Kind, params: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
        """The name of the provider with these settings; deployments that share them share it."""
        identity = repr(sorted(entry.items())) + (str(params.get("region_name")) if params.get("region_name") else "")
        if identity not in self._entries:
            host = urlsplit(str(entry.get("base_url", ""))).hostname or ""
            stem = host.partition(".")[0] if kind.kind == "azure" and host else kind.kind
            stem = _NO_NAME.sub("-", stem) or kind.kind
            name, number = stem, 2
            while name in self.providers or name in {"route", "app"}:
                name, number = f"{stem}-{number}", number + 1
            self._entries[identity] = name
            self.providers[name] = dict(entry)
        return self._entries[identity]

    def _figures(
        self, place: str, target: str, params: Mapping[str, Any], info: Mapping[str, Any], row: Mapping[str, Any]
    ) -> None:
        """Rate limits, prices, budget and region of a deployment."""
        rates = {
            "requests": _number(params.get("rpm", row.get("rpm"))),
            "tokens": _number(params.get("tpm", row.get("tpm"))),
        }
        counted = {name: int(value) for name, value in rates.items() if value is not None}
        if counted:
            self._limit("rate", target, {"match": {"model": target}, "window": "60s", **counted})
        costs = {name: params.get(name, info.get(name)) for name in ("input_cost_per_token", "output_cost_per_token")}
        if any(value is not None for value in costs.values()) and None in costs.values():
            self._note(place, "do", "only one of its two prices is given; write both under cost.prices")
        elif None not in costs.values():
            self.prices[target] = {
                "input_per_million": _per_million(costs["input_cost_per_token"]),
                "output_per_million": _per_million(costs["output_cost_per_token"]),
            }
        self._budget(f"{place}.litellm_params", target, params, {"match": {"model": target}})
        if isinstance(params.get("region_name"), str):
            self.approvals[target] = {"regions": [params["region_name"]]}

    # ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _routes(self, router: Mapping[str, Any], litellm: Mapping[str, Any]) -> dict[str, Any]:
        named = str(router.get("routing_strategy") or "simple-shuffle")
        strategy = _STRATEGIES.get(named)
        if strategy is None:
            self._note("router_settings.routing_strategy", "no counterpart", f"{named!r}: targets are tried in order")
        elif named.startswith(("usage-based", "least-busy")):
            self._note("router_settings.routing_strategy", "differs", f"{named!r} becomes {strategy!r}")
        common = self._common(router, litellm)
        later = {**_fallbacks(litellm), **_fallbacks(router)}
        routes: dict[str, Any] = {}
        for group, deployments in self.groups.items():
            routes[group] = self._route(group, deployments, strategy or "fallback", later, common)
        aliases = router.get("model_group_alias")
        for alias, group in aliases.items() if isinstance(aliases, dict) else ():
            chosen = str(group.get("model") if isinstance(group, dict) else group)
            if chosen in routes:
                routes[str(alias)] = dict(routes[chosen])
        for group in later:
            if group not in self.groups and group != "*":
                self._note("fallbacks", "no counterpart", f"{group!r} is no model of the list")
        if routes:
            self._note("model_list", "differs", f"a model is asked for as route/NAME, e.g. route/{next(iter(routes))}")
        return routes

    def _common(self, router: Mapping[str, Any], litellm: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        retries = _number(router.get("num_retries", litellm.get("num_retries")))
        if retries is not None:
            found["retries"] = min(10, max(0, int(retries)))
        whole = _number(router.get("timeout")) or _number(litellm.get("request_timeout"))
        if whole:
            found["total_timeout_s"] = min(3600.0, whole)
        first = _number(router.get("stream_timeout"))
        if first:
            found["first_token_timeout_s"] = min(3600.0, first)
        return found

    def _route(
        self,
        group: str,
        deployments: Sequence[_Deployment],
        strategy: str,
        later: Mapping[str, Sequence[str]],
        common: Mapping[str, Any],
    ) -> dict[str, Any]:
        ordered = sorted(deployments, key=lambda one: one.order)
        targets = list(dict.fromkeys(one.target for one in ordered))
        if len(targets) < len(deployments):
            self._note(f"model_name {group!r}", "differs", "deployments that are the same target are one")
        if len({one.order for one in ordered}) > 1 or len(targets) == 1:
            strategy = "fallback"
        route: dict[str, Any] = {"targets": targets, "strategy": strategy, **common}
        route |= {**self.timeouts.get(group, {}), **self.sampling.get(group, {})}
        if "try_timeout_s" in route:
            route["total_timeout_s"] = max(route.get("total_timeout_s", 60.0), route["try_timeout_s"])
        weights = {one.target: one.weight for one in ordered if one.weight is not None}
        if not weights and all(one.requests for one in ordered):
            # Without weights, theirs draws by the requests that each may take.
            weights = {one.target: one.requests for one in ordered if one.requests}
        if strategy == "weighted" and any(weights.values()):
            route["weights"] = weights
        extra = [one for name in later.get(group, later.get("*", ())) for one in self._targets_of(name, group)]
        extra = [target for target in dict.fromkeys(extra) if target not in targets]
        if extra and strategy == "fallback":
            route["targets"] = [*targets, *extra]
        elif extra:
            # Within these strategies every target takes its turn; a last resort waits for all of them to fail.
            route |= {"degrade": ["smaller"], "smaller": extra}
        return route

    def _targets_of(self, name: str, group: str) -> list[str]:
        if name not in self.groups:
            self._note("fallbacks", "no counterpart", f"{name!r}, a fallback of {group!r}, is no model of the list")
        return [one.target for one in self.groups.get(name, [])]

    def _breaker(self, router: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        fails = _number(router.get("allowed_fails"))
        if fails is not None:
            # Theirs rests a deployment at the next failure after these.
            found["failures"] = int(fails) + 1
        pause = _number(router.get("cooldown_time"))
        if pause:
            found |= {"pause_s": pause, "max_pause_s": max(60.0, pause)}
        return found

    # ── budgets ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _budgets(self, router: Mapping[str, Any], litellm: Mapping[str, Any]) -> None:
        self._budget("litellm_settings", "all", litellm, {})
        by = (("default_internal_user_params", "user"), ("default_key_generate_params", "key"))
        for section, per in by:
            given = litellm.get(section)
            if isinstance(given, dict):
                self._budget(f"litellm_settings.{section}", f"each-{per}", given, {"per": [per]})
                rates = {"requests": _number(given.get("rpm_limit")), "tokens": _number(given.get("tpm_limit"))}
                counted = {name: int(value) for name, value in rates.items() if value is not None}
                if counted:
                    self._limit("rate", f"each-{per}", {"per": [per], "window": "60s", **counted})
        budgets = router.get("provider_budget_config")
        for name, given in budgets.items() if isinstance(budgets, dict) else ():
            kind = kind_of(f"{name}/x")
            mine = [known for known, entry in self.providers.items() if kind is not None and entry["kind"] == kind.kind]
            if not mine:
                self._note("router_settings.provider_budget_config", "no counterpart", f"no provider is {name!r}")
            for provider in mine:
                spread = {"max_budget": given.get("budget_limit"), "budget_duration": given.get("time_period")}
                self._budget(
                    "router_settings.provider_budget_config", provider, spread, {"match": {"provider": provider}}
                )

    def _budget(self, place: str, name: str, given: Mapping[str, Any], rule: Mapping[str, Any]) -> None:
        amount = _decimal(given.get("max_budget"))
        if amount is None:
            return
        over = _over(given.get("budget_duration"))
        if over is None:
            self._note(f"{place}.budget_duration", "differs", "no such length here: the budget is a month's")
            over = {"period": "month"}
        self._limit("budget", name, {**rule, "money": amount, **over})

    def _limit(self, what: str, name: str, rule: Mapping[str, Any]) -> None:
        stem = _NO_NAME.sub("-", f"{what}:{name}")[:120]
        if all(known["name"] != stem for known in self.limits):
            self.limits.append({"name": stem, **rule})

    # ── what is left ──────────────────────────────────────────────────────────────────────────────────────────────

    def _leftovers(self, router: Mapping[str, Any], litellm: Mapping[str, Any]) -> None:
        for section, known in (("router_settings", _ROUTER_KEYS), ("litellm_settings", _LITELLM_KEYS)):
            for key in router if section == "router_settings" else litellm:
                if key not in known:
                    self._note(f"{section}.{key}", "no counterpart", _ADVICE.get(key, "it is left out"))
        for key in self._section("general_settings"):
            self._note(f"general_settings.{key}", *_GENERAL.get(key, ("no counterpart", "it is left out")))
        for key in self.config:
            if key not in {"model_list", "router_settings", "litellm_settings", "general_settings"}:
                self._note(str(key), "no counterpart", _ADVICE.get(str(key), "it is left out"))


_GENERAL: Mapping[str, tuple[Literal["no counterpart", "differs", "do"], str]] = {
    "master_key": ("do", "make a key of ours: interlock keys create admin --role admin"),
    "database_url": ("do", "name a database of its own under stores.sql; keys and spend are not taken over"),
    "alerting": ("no counterpart", "alert on the metrics of /metrics"),
}
_ADVICE: Mapping[str, str] = {
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
    "content_policy_fallbacks": "a refusal of a provider's filter goes to the caller",
}


def _fallbacks(section: Mapping[str, Any]) -> dict[str, list[str]]:
    """Group to the groups that follow it; ``*`` for those that name none."""
    found: dict[str, list[str]] = {}
    for key in ("fallbacks", "context_window_fallbacks"):
        rows = section.get(key)
        for row in rows if isinstance(rows, list) else ():
            for group, names in row.items() if isinstance(row, dict) else ():
                known = found.setdefault(str(group), [])
                known += [str(name) for name in _list(names) if str(name) not in known]
    default = _list(section.get("default_fallbacks"))
    if default:
        found.setdefault("*", [str(name) for name in default])
    return found


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < 1e15 else None


def _decimal(value: object) -> str | None:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return f"{round(amount, 9).normalize():f}" if amount.is_finite() and 0 <= amount < 10**9 else None


def _per_million(value: object) -> str:
    try:
        amount = Decimal(str(value)) * 1_000_000
    except InvalidOperation:
        return "0"
    return f"{round(amount, 9).normalize():f}" if amount.is_finite() and 0 <= amount < 10**9 else "0"


def _over(value: object) -> dict[str, str] | None:
    """A budget's duration as a period or a window; None when there is no such length."""
    if value is None:
        return {"period": "total"}
    text = str(value).strip().lower()
    named = {
        "1mo": "month",
        "30d": "month",
        "31d": "month",
        "1d": "day",
        "24h": "day",
        "1h": "hour",
        "7d": "week",
        "1w": "week",
    }
    if text in named:
        return {"period": named[text]}
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        return None
    seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]
    return {"window": text} if 1 <= seconds <= 7 * 86_400 else None
