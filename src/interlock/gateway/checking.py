"""Whether settings of the gateway can be served by, told before anything serves by them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from interlock.core.errors import InterlockError
from interlock.core.patterns import slow_on
from interlock.gateway.ports import Provider
from interlock.gateway.posting import chain
from interlock.gateway.secrets import Keys
from interlock.gateway.settings import GatewaySettings, ProviderSettings
from interlock.gateway.types import RouteSpec, Target

__all__ = ["Problem", "check", "patterns_of", "targets_of"]


class Problem(NamedTuple):
    """One thing that would not work."""

    field: str
    """Dotted name of the setting."""
    message: str
    hint: str = ""


async def check(
    settings: GatewaySettings,
    *,
    build: Callable[[str, ProviderSettings], Provider],
    environ: Mapping[str, str],
    trusted: Collection[str] = (),
) -> list[Problem]:
    """Everything that is wrong with `settings`, in their order. Sends nothing.

    Secrets in the environment and in files are looked for; those in stores are not asked for, because a store that is
    down now need not be in the way (`interlock providers test` asks them).

    Args:
        build: makes a provider, which is closed again.
        trusted: providers that serve by the same entry already; whatever they lack, they are no worse for it.
    """
    found: list[Problem] = []
    for name, entry in settings.providers.items():
        if name not in trusted:
            found += [problem async for problem in _provider(name, entry, build, environ)]
    for name, route in settings.routes.items():
        found += _route(f"gateway.routes.{name}", route, settings.providers)
    return found


async def _provider(
    name: str, entry: ProviderSettings, build: Callable[[str, ProviderSettings], Provider], environ: Mapping[str, str]
) -> AsyncIterator[Problem]:
    field = f"gateway.providers.{name}"
    try:
        provider = build(name, entry)
    except InterlockError as error:
        # Only an unknown kind has no setting of its own to name.
        yield Problem(error.param or f"{field}.kind", error.message, error.hint or "")
        return
    await provider.close()
    keys = Keys(name, entry, environ)
    for place, reference in _secrets(entry):
        if reference.startswith(("env:", "file:")):
            try:
                await keys.read(reference, param=f"{field}.{place}")
            except InterlockError as error:
                yield Problem(f"{field}.{place}", error.message, error.hint or "")


def _secrets(entry: ProviderSettings) -> Iterator[tuple[str, str]]:
    named = {
        "key": entry.key,
        "api_key_file": entry.api_key_file and f"file:{entry.api_key_file}",
        "api_key_env": entry.api_key_env and f"env:{entry.api_key_env}",
        "credentials": entry.credentials,
        "entra_secret": entry.entra_secret,
    }
    yield from ((place, reference) for place, reference in named.items() if reference)
    yield from ((f"tenant_keys.{tenant}", reference) for tenant, reference in entry.tenant_keys.items())


def targets_of(route: RouteSpec) -> Iterator[tuple[str, str]]:
    """(field, target) of everything a route may send a request to."""
    for field, names in (("targets", route.targets), ("smaller", route.smaller)):
        for position, target in enumerate(names):
            yield f"{field}[{position}]", target
    if route.shadow is not None:
        yield "shadow.target", route.shadow.target


def patterns_of(route: RouteSpec) -> Iterator[tuple[str, str]]:
    """(field, pattern) of every regular expression that a route tries on answers."""
    for position, pattern in enumerate(route.cascade.reject):
        yield f"cascade.reject[{position}]", pattern
    for position, step in enumerate(route.post):
        options = step.get("regex_replace") if isinstance(step, dict) else None
        if isinstance(options, dict) and "pattern" in options:
            yield f"post[{position}].regex_replace.pattern", str(options["pattern"])


_SLOW = "write it without a repeat inside a repeat, or with upper bounds: {1,50} instead of +"


def _route(field: str, route: RouteSpec, providers: Collection[str]) -> list[Problem]:
    found = []
    try:
        chain(route.post)
    except InterlockError as error:
        found.append(Problem(f"{field}.{error.param or 'post'}", error.message, error.hint or ""))
    for place, pattern in patterns_of(route):
        slow = slow_on(pattern)
        if slow is not None:
            found.append(Problem(f"{field}.{place}", f"this pattern takes too long, as on {slow}", _SLOW))
    for place, name in targets_of(route):
        provider = Target.parse(name).provider
        if provider not in providers:
            found.append(
                Problem(
                    f"{field}.{place}",
                    f"the target {name!r} names the provider {provider!r}, which is not configured",
                    f"add gateway.providers.{provider}, or name one of: {', '.join(sorted(providers))}",
                )
            )
    return found
