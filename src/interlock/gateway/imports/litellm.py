"""A LiteLLM proxy's `config.yaml` as settings of ours, and a list of what has no counterpart.

Nothing of LiteLLM is needed for it. Secrets written into that file are never copied: a reference takes their place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from interlock.core.errors import InvalidInput
from interlock.gateway.imports import _values as values
from interlock.gateway.imports._facts import facts_of, work_of
from interlock.gateway.imports._fields import (
    ADVICE,
    DEPLOYMENT_FIELDS,
    DEPLOYMENT_NUMBERS,
    GENERAL_ADVICE,
    LITELLM_FIELDS,
    LITELLM_NUMBERS,
    ROUTER_FIELDS,
    ROUTER_NUMBERS,
    ROW_FIELDS,
    STRATEGIES,
)
from interlock.gateway.imports._names import Kind, kind_of

__all__ = ["Imported", "Note", "convert"]

# Any in this module: YAML that somebody else wrote, narrowed step by step.
_ENV = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.:-]+")


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
    retries: float | None
    work: str


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
        params, info = row.get("litellm_params"), row.get("model_info")
        info = info if isinstance(info, dict) else {}
        if not isinstance(params, dict) or not isinstance(params.get("model"), str):
            self._note(place, "no counterpart", "it has no litellm_params.model")
            return
        kind = kind_of(params["model"], params.get("custom_llm_provider"))
        if kind is None:
            self._note(f"{place}.litellm_params.model", "no counterpart", f"nothing here speaks to {params['model']!r}")
            return
        self._unread(f"{place}.", row, ROW_FIELDS)
        self._unread(f"{place}.litellm_params.", params, DEPLOYMENT_FIELDS, DEPLOYMENT_NUMBERS)
        model = kind.model
        entry = self._entry(place, kind, params)
        if kind.kind == "azure" and isinstance(info.get("base_model"), str):
            model = str(info["base_model"]).removeprefix("azure/")
        name = self._provider(kind, params, entry)
        if kind.kind == "azure" and model != kind.model:
            self.providers[name].setdefault("deployments", {})[model] = kind.model
        facts = facts_of(model, info, base_model_is_read=kind.kind == "azure")
        for key, sort, message in facts.notes:
            self._note(f"{place}.model_info.{key}", sort, message)
        if facts.profile:
            self.providers[name].setdefault("profiles", {}).setdefault(model, {}).update(facts.profile)
        group = str(row.get("model_name") or model)
        if "*" in group or "*" in model:
            self._note(
                f"{place}.model_name", "differs", f"any model of it is asked for as {name}/MODEL; no route is made"
            )
            return
        target = f"{name}/{model}"
        self._figures(place, target, params, info, row)
        order = values.number(params.get("order"))
        weight = values.number(params.get("weight"))
        requests = values.number(params.get("rpm", row.get("rpm")))
        retries = values.number(params.get("max_retries", params.get("num_retries")))
        work = work_of(model, info)
        self.groups.setdefault(group, []).append(_Deployment(target, weight, requests, order or 0.0, retries, work))
        listed = self.providers[name].setdefault("models", [])
        if model not in listed:
            listed.append(model)
        times = self.timeouts.setdefault(group, {})
        for theirs, ours in (("timeout", "try_timeout_s"), ("stream_timeout", "first_token_timeout_s")):
            if (seconds := values.number(params.get(theirs))) is not None and seconds > 0:
                seconds = self._bounded(f"{place}.litellm_params.{theirs}", seconds)
                if times.get(ours, seconds) != seconds:
                    self._note(f"model_name {group!r}", "differs", f"its deployments have one {ours}: the longest")
                times[ours] = max(times.get(ours, 0.0), seconds)
        chosen = {"temperature": "temperature", "top_p": "top_p", "seed": "seed", "max_tokens": "max_output_tokens"}
        for theirs, ours in chosen.items():
            if params.get(theirs) is not None:
                if self.sampling.setdefault(group, {}).get(ours, params[theirs]) != params[theirs]:
                    self._note(f"model_name {group!r}", "differs", f"its deployments have one {ours}: the last")
                self.sampling[group][ours] = params[theirs]

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
        if (most := values.number(params.get("max_parallel_requests"))) is not None and most >= 1:
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
            "requests": values.number(params.get("rpm", row.get("rpm"))),
            "tokens": values.number(params.get("tpm", row.get("tpm"))),
        }
        counted = {name: int(value) for name, value in rates.items() if value is not None}
        if counted:
            self._limit("rate", target, {"match": {"model": target}, "window": "60s", **counted})
        costs = {name: params.get(name, info.get(name)) for name in ("input_cost_per_token", "output_cost_per_token")}
        if any(value is not None for value in costs.values()) and None in costs.values():
            self._note(place, "do", "only one of its two prices is given; write both under cost.prices")
        elif None not in costs.values():
            self.prices[target] = {
                "input_per_million": values.per_million(costs["input_cost_per_token"]),
                "output_per_million": values.per_million(costs["output_cost_per_token"]),
            }
        self._budget(f"{place}.litellm_params", target, params, {"match": {"model": target}})
        if isinstance(params.get("region_name"), str):
            self.approvals[target] = {"regions": [params["region_name"]]}

    # ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _routes(self, router: Mapping[str, Any], litellm: Mapping[str, Any]) -> dict[str, Any]:
        named = str(router.get("routing_strategy") or "simple-shuffle")
        strategy = STRATEGIES.get(named)
        if strategy is None:
            self._note("router_settings.routing_strategy", "no counterpart", f"{named!r}: targets are tried in order")
        elif named.startswith(("usage-based", "least-busy")):
            self._note("router_settings.routing_strategy", "differs", f"{named!r} becomes {strategy!r}")
        common = self._common(router, litellm)
        later = {**values.fallbacks(litellm), **values.fallbacks(router)}
        self._narrow_fallbacks("litellm_settings", litellm)
        self._narrow_fallbacks("router_settings", router)
        routes: dict[str, Any] = {}
        for group, deployments in self.groups.items():
            routes[group] = self._route(group, deployments, strategy or "fallback", later, common)
        aliases = router.get("model_group_alias")
        for alias, group in aliases.items() if isinstance(aliases, dict) else ():
            chosen = str(group.get("model") if isinstance(group, dict) else group)
            if chosen in routes:
                routes[str(alias)] = deepcopy(routes[chosen])
            else:
                place = f"router_settings.model_group_alias.{alias}"
                self._note(place, "no counterpart", f"{chosen!r} is no model of the list")
        for group in later:
            if group not in self.groups and group != "*":
                self._note("fallbacks", "no counterpart", f"{group!r} is no model of the list")
        if routes:
            self._note("model_list", "differs", f"a model is asked for as route/NAME, e.g. route/{next(iter(routes))}")
        return routes

    def _common(self, router: Mapping[str, Any], litellm: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        retries = values.number(router.get("num_retries", litellm.get("num_retries")))
        if retries is not None:
            found["retries"] = min(10, max(0, int(retries)))
        if "num_retries" in router and litellm.get("num_retries", router["num_retries"]) != router["num_retries"]:
            self._note("litellm_settings.num_retries", "differs", "router_settings.num_retries counts")
        whole, request = values.number(router.get("timeout")), values.number(litellm.get("request_timeout"))
        if whole and request and whole != request:
            self._note("litellm_settings.request_timeout", "differs", "router_settings.timeout counts")
        place = "router_settings.timeout" if whole else "litellm_settings.request_timeout"
        if whole := whole or request:
            found["total_timeout_s"] = self._bounded(place, whole)
        first = values.number(router.get("stream_timeout"))
        if first:
            found["first_token_timeout_s"] = self._bounded("router_settings.stream_timeout", first)
        return found

    def _bounded(self, place: str, seconds: float) -> float:
        if seconds > 3600:
            self._note(place, "differs", "the longest time here is an hour")
        return min(seconds, 3600.0)

    def _narrow_fallbacks(self, section: str, given: Mapping[str, Any]) -> None:
        """Fallbacks for one kind of failure. As plain ones, any outage would send prompts to them."""
        for key, when in _NARROW.items():
            for group, names in values.rows(given.get(key)):
                ours = [target for name in names for target in self._targets_of(name, group)]
                then = f"add {', '.join(ours)} to gateway.routes.{group}.targets" if ours else "change its targets"
                message = f"{group!r} to {', '.join(names)}, {when}; if any failure may send its prompts there, {then}"
                self._note(f"{section}.{key}", "no counterpart", message)

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
        if len({one.order for one in ordered}) > 1:
            if len({one.order for one in ordered}) < len(targets):
                self._note(f"model_name {group!r}", "differs", "deployments of the same order are tried one by one")
            strategy = "fallback"
        if len(targets) == 1:
            strategy = "fallback"
        route: dict[str, Any] = {"targets": targets, "strategy": strategy, **common}
        route |= {**self.timeouts.get(group, {}), **self.sampling.get(group, {})}
        if "try_timeout_s" in route:
            route["total_timeout_s"] = max(route.get("total_timeout_s", 60.0), route["try_timeout_s"])
        retries = {one.retries for one in ordered if one.retries is not None}
        if retries:
            if len(retries) > 1 or common.get("retries") not in {None, *retries}:
                self._note(f"model_name {group!r}", "differs", "its deployments have one `retries`: the most of theirs")
            route["retries"] = min(10, int(max(retries)))
        weights = {one.target: one.weight for one in ordered if one.weight is not None}
        self._say_weights(group, strategy, targets, weights)
        if not weights and all(one.requests for one in ordered):
            # Without weights, theirs draws by the requests that each may take.
            weights = {one.target: one.requests for one in ordered if one.requests}
        if strategy == "weighted" and any(weights.values()):
            route["weights"] = weights
        extra = [one for name in later.get(group, later.get("*", ())) for one in self._targets_of(name, group)]
        works = {one.target: one.work for one in self._all()}
        unfit = [target for target in dict.fromkeys(extra) if works[target] != ordered[0].work]
        if unfit:
            message = f"{', '.join(unfit)} cannot stand in for {group!r}, which does {ordered[0].work}: left out"
            self._note("fallbacks" if group in later else "default_fallbacks", "no counterpart", message)
            extra = [target for target in extra if target not in unfit]
        extra = [target for target in dict.fromkeys(extra) if target not in targets]
        if extra and strategy == "fallback":
            route["targets"] = [*targets, *extra]
        elif extra:
            # Within these strategies every target takes its turn; a last resort waits for all of them to fail.
            route |= {"degrade": ["smaller"], "smaller": extra}
        return route

    def _say_weights(
        self, group: str, strategy: str, targets: Sequence[str], weights: Mapping[str, float | None]
    ) -> None:
        if not weights:
            return
        place = f"model_name {group!r}"
        unnamed = [target for target in targets if target not in weights]
        if len(targets) == 1:
            self._note(place, "no counterpart", "it has one target: its weight is left out")
        elif strategy != "weighted":
            self._note(
                place,
                "differs",
                f"its weights are left out, since the strategy {strategy!r} has none, as theirs has none; to draw by"
                f" them set gateway.routes.{group}.strategy: weighted and its weights",
            )
        elif not any(weights.values()):
            self._note(place, "differs", "all its weights are 0: its targets are drawn alike")
        elif unnamed:
            self._note(place, "differs", f"{', '.join(unnamed)} names no weight and has 1")

    def _all(self) -> list[_Deployment]:
        return [one for deployments in self.groups.values() for one in deployments]

    def _targets_of(self, name: str, group: str) -> list[str]:
        if name not in self.groups:
            self._note("fallbacks", "no counterpart", f"{name!r}, a fallback of {group!r}, is no model of the list")
        return [one.target for one in self.groups.get(name, [])]

    def _breaker(self, router: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        fails = values.number(router.get("allowed_fails"))
        if fails is not None:
            # Theirs rests a deployment at the next failure after these.
            found["failures"] = int(fails) + 1
        pause = values.number(router.get("cooldown_time"))
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
                known = {"max_budget", "budget_duration", "rpm_limit", "tpm_limit"}
                self._unread(f"litellm_settings.{section}.", given, known, known - {"budget_duration"})
                self._budget(f"litellm_settings.{section}", f"each-{per}", given, {"per": [per]})
                rates = {
                    "requests": values.number(given.get("rpm_limit")),
                    "tokens": values.number(given.get("tpm_limit")),
                }
                counted = {name: int(value) for name, value in rates.items() if value is not None}
                if counted:
                    self._limit("rate", f"each-{per}", {"per": [per], "window": "60s", **counted})
        budgets = router.get("provider_budget_config")
        for name, given in budgets.items() if isinstance(budgets, dict) else ():
            given = given if isinstance(given, dict) else {}
            place = f"router_settings.provider_budget_config.{name}"
            self._unread(f"{place}.", given, {"budget_limit", "time_period"}, {"budget_limit"})
            kind = kind_of(f"{name}/x")
            mine = [known for known, entry in self.providers.items() if kind is not None and entry["kind"] == kind.kind]
            if not mine:
                self._note(place, "no counterpart", f"no provider is {name!r}")
            for provider in mine:
                spread = {"max_budget": given.get("budget_limit"), "budget_duration": given.get("time_period")}
                self._budget(place, provider, spread, {"match": {"provider": provider}})

    def _budget(self, place: str, name: str, given: Mapping[str, Any], rule: Mapping[str, Any]) -> None:
        amount = values.decimal(given.get("max_budget"))
        length = given.get("budget_duration")
        if amount is None:
            if length is not None:
                self._note(f"{place}.budget_duration", "no counterpart", "without max_budget it is left out")
            return
        over = values.over(length)
        if over is None:
            self._note(f"{place}.budget_duration", "differs", "no such length here: the budget is a calendar month's")
            over = {"period": "month"}
        elif over.get("period") not in {None, "total"}:
            message = f"{length} becomes a calendar {over['period']} in UTC, whenever the budget was first used"
            self._note(f"{place}.budget_duration", "differs", message)
        self._limit("budget", name, {**rule, "money": amount, **over})

    def _limit(self, what: str, name: str, rule: Mapping[str, Any]) -> None:
        stem = _NO_NAME.sub("-", f"{what}:{name}")[:120]
        if all(known["name"] != stem for known in self.limits):
            self.limits.append({"name": stem, **rule})

    # ── what is left ──────────────────────────────────────────────────────────────────────────────────────────────

    def _leftovers(self, router: Mapping[str, Any], litellm: Mapping[str, Any]) -> None:
        self._unread("router_settings.", router, ROUTER_FIELDS, ROUTER_NUMBERS)
        self._unread("litellm_settings.", litellm, LITELLM_FIELDS, LITELLM_NUMBERS)
        for key in self._section("general_settings"):
            self._note(f"general_settings.{key}", *GENERAL_ADVICE.get(key, ("no counterpart", "it is left out")))
        self._unread("", self.config, {"model_list", "router_settings", "litellm_settings", "general_settings"})

    def _unread(self, place: str, given: Mapping[str, Any], known: Set[str], numbers: Set[str] = frozenset()) -> None:
        """Note what is not read: fields that have no counterpart, and values that should be numbers."""
        for key, value in given.items():
            if key not in known:
                self._note(f"{place}{key}", "no counterpart", ADVICE.get(str(key), "it is left out"))
            elif key in numbers and value is not None and values.number(value) is None:
                self._note(f"{place}{key}", "do", "its value is no number from 0 up: it is left out; set it yourself")


_NARROW = {
    "context_window_fallbacks": "for prompts that are too long",
    "content_policy_fallbacks": "when a provider's filter refuses, which goes to the caller here",
}
