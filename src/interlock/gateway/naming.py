"""What a model's name stands for: a route of the workspace, or a route of one target."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from interlock.core.errors import InvalidInput, NotFound
from interlock.gateway.settings import GatewaySettings
from interlock.gateway.types import RouteSpec, Target

__all__ = ["near", "route_of", "target_of"]

_MOST_NAME = 256


def route_of(settings: GatewaySettings, model: str) -> RouteSpec:
    """The route behind a model name: ``route/NAME``, or a route of the one target ``provider/model``.

    Raises: NotFound, InvalidInput.
    """
    if model.startswith("route/"):
        name = model.removeprefix("route/")
        if name not in settings.routes:
            raise NotFound(
                f"no route named {name!r}",
                param="model",
                code="model_not_found",
                hint=near(name, list(settings.routes), "routes"),
            )
        return settings.routes[name]
    return RouteSpec(targets=[str(target_of(settings, model))])


def target_of(settings: GatewaySettings, name: str) -> Target:
    """The target of a name. Raises: InvalidInput, NotFound: there is no such provider."""
    if len(name) > _MOST_NAME or not (name.isascii() and name.isprintable()):
        # It goes into headers, logs and metrics as it is.
        raise InvalidInput(
            f"a model's name has at most {_MOST_NAME} printable ASCII characters",
            param="model",
            code="model_not_found",
        )
    try:
        target = Target.parse(name)
    except ValueError as error:
        raise InvalidInput(str(error), param="model", code="model_not_found") from error
    if target.provider not in settings.providers:
        raise NotFound(
            f"no model {name!r}: there is no provider {target.provider!r}",
            param="model",
            code="model_not_found",
            hint=near(target.provider, list(settings.providers), "providers"),
        )
    return target


def near(name: str, known: Sequence[str], what: str) -> str:
    """A hint: the nearest of the known names, else all of them."""
    found = difflib.get_close_matches(name, known, n=1)
    if found:
        return f"did you mean {found[0]!r}?"
    return f"{what}: {', '.join(known) or 'none are configured'}; see all with: GET /v1/models"
